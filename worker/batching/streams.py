"""CUDA streams: GPU work that has nothing to do with each other does not wait for each other.

Denoiser calls have a stream, all other model calls have one, and so has each thread that makes images. A copy to the
host or from it makes its thread wait for what was started before on the same stream: on one stream for all, that would
be the denoiser's calls for everybody. What crosses from one to another is handed over with an event, which the other
stream waits for on the GPU. Without CUDA all of this is nothing.
"""

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from darkroom.worker.batching.stacking import tensors_of

T = TypeVar("T")

#: Held while a model call is recorded: the allocator forgets uses of memory that it is told of meanwhile.
RECORDING = threading.Lock()

_HIGH = -1  # priority; also a pool of streams of its own, so that no thread is given one of the engine's


@dataclass(frozen=True, slots=True)
class Handed(Generic[T]):
    """Tensors, or a tree of them, that the stream of another thread may still be at work on."""

    value: T
    event: Any  # torch.cuda.Event; None without CUDA

    def take(self) -> T:
        """The value, for the current stream; work that is started on it from now on comes after the event."""
        if self.event is not None:
            torch.cuda.current_stream(self.event.device).wait_event(self.event)
            used_here(self.value)
        return self.value


class Streams:
    """The streams of one engine, and one for each thread that asks."""

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device if device and device.type == "cuda" else None
        self._own = threading.local()
        if self._device:
            self._denoiser, self._others = (_stream(self._device, priority=_HIGH) for _ in range(2))

    def denoiser(self) -> AbstractContextManager[Any]:
        """What is started in the context goes to the denoiser's stream."""
        return torch.cuda.stream(self._denoiser) if self._device else nullcontext()

    def others(self) -> AbstractContextManager[Any]:
        """To the stream of text encoders and VAE."""
        return torch.cuda.stream(self._others) if self._device else nullcontext()

    def own(self) -> AbstractContextManager[Any]:
        """To the calling thread's."""
        if not self._device:
            return nullcontext()
        if not hasattr(self._own, "stream"):
            self._own.stream = _stream(self._device)
        return torch.cuda.stream(self._own.stream)

    def handed(self, value: T) -> Handed[T]:
        """The value, made by what was started on the current stream until now."""
        return Handed(value, torch.cuda.current_stream(self._device).record_event() if self._device else None)

    def finish(self) -> None:
        """Waits until all that was started on the current stream is done."""
        if self._device:
            torch.cuda.current_stream(self._device).synchronize()


def _stream(device: torch.device, priority: int = 0) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]


def used_here(tree: Any) -> None:
    """Keeps the memory of tensors that another stream made until the current one is done with them."""
    for tensor in tensors_of(tree):
        if tensor.is_cuda:
            with RECORDING:
                tensor.record_stream(torch.cuda.current_stream(tensor.device))
