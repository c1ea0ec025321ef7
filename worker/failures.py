"""The one door through which errors of pipelines, torch and CUDA become ours."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from darkroom.tasks.errors import DarkroomError
from darkroom.worker.errors import DeviceBroken, GenerationFailed, OutOfMemory

MAX_MESSAGE = 300  # characters

# How RuntimeErrors of the CPU's allocator, cuBLAS and cuDNN tell of memory.
_MEMORY_PHRASES = ("not enough memory", "can't allocate memory", "out of memory", "ALLOC_FAILED")

# How those tell of a kernel that failed: after one the process can compute nothing more on the device.
_BROKEN_PHRASES = ("CUDA error", "EXECUTION_FAILED", "INTERNAL_ERROR", "device-side assert")


class Control(Exception):
    """What ends a job or an image from outside, such as a cancel: nothing has failed."""


@contextmanager
def failures_become_ours(is_control: Callable[[BaseException], bool] = lambda _: False) -> Iterator[None]:
    """Raises OutOfMemory, DeviceBroken or GenerationFailed for what a model call raised.

    Errors of our own pass, and so do a Control and what `is_control` knows: a callback's way to end the generation.
    """
    try:
        yield
    except (DarkroomError, Control):
        raise
    except Exception as error:
        if is_control(error):
            raise
        raise _ours(error) from error


def _ours(error: Exception) -> OutOfMemory | DeviceBroken | GenerationFailed:
    let_go(error)
    if tells_of_memory(error):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return OutOfMemory(_message(error))
    if tells_of_device(error):
        return DeviceBroken(_message(error))
    return GenerationFailed(_message(error))


def let_go(error: BaseException) -> None:
    """Frees the tensors of the broken call: they would live as long as someone holds the error."""
    traceback.clear_frames(error.__traceback__)


def tells_of_memory(error: BaseException) -> bool:
    """Whether the device's or the host's memory did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _MEMORY_PHRASES)


def tells_of_device(error: BaseException) -> bool:
    """Whether the device is of no use to this process any more: an illegal access, a lost GPU."""
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _BROKEN_PHRASES)


def _message(error: Exception) -> str:
    """The error's class and its first line: what follows is often a dump."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"[:MAX_MESSAGE].rstrip(": ")
