"""CPU threads, of which each Python thread has its own number."""

import os

import torch


def cores() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(count: int) -> None:
    """CPU threads for the model code that this thread runs; torch keeps one number for each thread.

    Only one thread may have more than one: every thread has an OpenMP team of its own, and where all teams together
    are more than there are cores, OpenMP's threads sleep instead of spinning. Each of the hundreds of operations of a
    model call then waits for them to wake, and a small model takes twice as long.

    The first parallel operation of a thread takes over what any thread set last, so that is made to happen before.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)
