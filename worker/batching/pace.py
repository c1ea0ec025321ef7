"""How long model calls take, and how far a GPU may be behind."""

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

T = TypeVar("T")

#: Model calls that a GPU may have before it. With one it would stand still while the next is put together; without
#: an end, schedulers that never wait for the GPU would have a whole image queued up before a newcomer's first call.
AHEAD = 2


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
    def busy(self) -> bool:
        """Whether a GPU still works on a launched call: nobody's steps keep it waiting."""
        return bool(self._launched) and not self._launched[-1].end.query()

    def _launch(self, call: Callable[[], T], group: Hashable, bucket: int, device: torch.device) -> T:
        stream = torch.cuda.current_stream(device)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record(stream)
        result = call()
        end.record(stream)
        self._launched.append(_Launched(group, bucket, start, end))
        return result
