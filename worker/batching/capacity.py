"""How many rows a GPU's memory has room for."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

#: Share of the free memory that a denoiser call may fill; the rest is for the VAE, schedulers and fragmentation.
SHARE = 0.7
#: Where calls are recorded as graphs: these hold what a call takes twice, and what is theirs is of no use to others.
SHARE_RECORDED = SHARE / 3

Measured = tuple[int, int]  # rows of a model call, bytes that it took beside what was there


class Capacity:
    """Tells `limit` how many rows of a group fit, by what its calls took: by each that is larger than all before."""

    def __init__(self, limit: Callable[[Hashable, int], None], share: float = SHARE) -> None:
        self._limit, self._share = limit, share
        self._largest: dict[tuple[Hashable, tuple[int, ...]], Measured] = {}

    def measured(
        self, group: Hashable, bucket: int, device: torch.device, widths: tuple[int, ...] = ()
    ) -> AbstractContextManager[None]:
        """Around one model call. Reads the allocator's books only, so nothing waits for the GPU.

        Calls with extras of other widths take other memory: the least that fits of them is what fits of the group.
        """
        if device.type != "cuda" or bucket <= self._largest.get((group, widths), (0, 0))[0]:
            return nullcontext()
        return self._measured(group, bucket, device, widths)

    @contextmanager
    def _measured(self, group: Hashable, bucket: int, device: torch.device, widths: tuple[int, ...]) -> Iterator[None]:
        before = self._largest.get((group, widths), (0, 0))
        torch.cuda.reset_peak_memory_stats(device)
        there = torch.cuda.memory_allocated(device)
        yield
        now = self._largest[group, widths] = bucket, torch.cuda.max_memory_allocated(device) - there
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        if before[0]:
            room = torch.cuda.mem_get_info(device)[0] + idle
            self._limit(group, rows_that_fit(before, now, int(self._share * room)))


def rows_that_fit(smaller: Measured, larger: Measured, room: int) -> int:
    """The most rows in a call that may take `room` bytes, one at least; by the line through two calls.

    One call alone would not tell what its rows took and what is taken once.
    """
    a_row = max(1, (larger[1] - smaller[1]) // (larger[0] - smaller[0]))
    return max(1, larger[0] + (room - larger[1]) // a_row)
