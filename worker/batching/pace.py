"""How long model calls take, and how far a GPU may be behind."""

import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

T = TypeVar("T")

#: Model calls that a GPU may have before it. With one it would stand still while the next is put together; without
#: an end, schedulers that never wait for the GPU would have a whole image queued up before a newcomer's first call.
AHEAD = 2


#: Pieces of work that are remembered until they are done; behind one that hangs there are never so many.
STARTED = 256


@dataclass(frozen=True, slots=True)
class _Launched:
    group: Hashable
    bucket: int
    start: Any  # torch.cuda.Event
    end: Any


class Pace:
    """Runs model calls; `told` hears group, bucket and seconds of each when it is done. For the engine's thread."""

    def __init__(self, told: Callable[[Hashable, int, float], None]) -> None:
        self._told = told
        self._launched: deque[_Launched] = deque()
        self._started: deque[tuple[float, Any]] = deque(maxlen=STARTED)

    def run(self, call: Callable[[], T], group: Hashable, bucket: int, device: torch.device) -> T:
        """The call's result; on a GPU it may not be computed yet."""
        if device.type == "cuda":
            return self._launch(call, group, bucket, device)
        began = time.perf_counter()
        result = call()
        if device.type == "cpu":  # elsewhere this would be the time of launching
            self._told(group, bucket, time.perf_counter() - began)
        return result

    def wait(self, most: int = AHEAD - 1) -> None:
        """Until at most so many launched calls are not done."""
        while len(self._launched) > most:
            done = self._launched.popleft()
            done.end.synchronize()
            self._told(done.group, done.bucket, done.start.elapsed_time(done.end) / 1000)

    @property
    def full(self) -> bool:
        """Whether `wait` would wait: the device has its next call, and there is time for other work."""
        return len(self._launched) >= AHEAD and not self._launched[0].end.query()

    def started(self, end: Any) -> None:
        """The device has work that is done with this `torch.cuda.Event`; None where there is no such device."""
        if end is not None:
            self._started.append((time.monotonic(), end))

    def behind_since(self) -> float | None:
        """When the oldest work was started that the device has not done, by `time.monotonic`. For one other thread."""
        with suppress(RuntimeError):  # of a device that is gone; whoever computes there hears of it
            while self._started and self._started[0][1].query():
                self._started.popleft()
            return self._started[0][0] if self._started else None
        return None

    @property
    def busy(self) -> bool:
        """Whether a GPU still works on a launched call: nobody's steps keep it waiting."""
        return bool(self._launched) and not self._launched[-1].end.query()

    def _launch(self, call: Callable[[], T], group: Hashable, bucket: int, device: torch.device) -> T:
        stream = torch.cuda.current_stream(device)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record(stream)
        result = call()
        end.record(stream)
        self.started(end)
        self._launched.append(_Launched(group, bucket, start, end))
        return result
