"""What a piece of work takes: seconds, and the device's memory at its most."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

_OF_THIS_PROCESS = Path("/proc/self")  # of Linux alone


@dataclass(frozen=True)
class Taken:
    """`peak` in bytes; None where this system does not tell."""

    seconds: float
    peak: int | None


def memory_in_use(device: torch.device) -> int | None:
    """Bytes: of a GPU what torch has given away there, else what this process has of the host's."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _resident("VmRSS")


def take(device: torch.device, work: Callable[[], object]) -> Taken:
    """Does it on this thread, and waits for the device; nothing else should use it meanwhile."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    known = not cuda and _forget_peak()
    began = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize(device)
        return Taken(time.perf_counter() - began, torch.cuda.max_memory_allocated(device))
    return Taken(time.perf_counter() - began, _resident("VmHWM") if known else None)


def _forget_peak() -> bool:
    """The peak of this process is what it uses now (proc(5), `clear_refs`); False where that cannot be."""
    try:
        (_OF_THIS_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident(name: str) -> int | None:
    try:
        lines = (_OF_THIS_PROCESS / "status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
