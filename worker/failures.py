"""The one door through which errors of pipelines, torch and CUDA become ours."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from darkroom.tasks.errors import DarkroomError
from darkroom.worker.errors import GenerationFailed, OutOfMemory

MAX_MESSAGE = 300  # characters

# How RuntimeErrors of the CPU's allocator, cuBLAS and cuDNN tell of memory.
_MEMORY_PHRASES = ("not enough memory", "can't allocate memory", "out of memory", "ALLOC_FAILED")


@contextmanager
def failures_become_ours(is_control: Callable[[BaseException], bool] = lambda _: False) -> Iterator[None]:
    """Raises OutOfMemory or GenerationFailed for what a model call raised.

    Errors of our own pass, and what `is_control` knows: a callback's way to end the generation.
    """
    try:
        yield
    except DarkroomError:
        raise
    except Exception as error:
        if is_control(error):
            raise
        raise _ours(error) from error


def _ours(error: Exception) -> OutOfMemory | GenerationFailed:
    let_go(error)
    if tells_of_memory(error):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return OutOfMemory(_message(error))
    return GenerationFailed(_message(error))


def let_go(error: BaseException) -> None:
    """Frees the tensors of the broken call: they would live as long as someone holds the error."""
    traceback.clear_frames(error.__traceback__)


def tells_of_memory(error: BaseException) -> bool:
    """Whether the device's or the host's memory did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _MEMORY_PHRASES)


def _message(error: Exception) -> str:
    """The error's class and its first line: what follows is often a dump."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"[:MAX_MESSAGE].rstrip(": ")
