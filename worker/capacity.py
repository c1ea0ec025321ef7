"""How many rows a GPU's memory has room for."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch

#: Share of the free memory that denoiser calls may fill; the rest is for the VAE, schedulers and fragmentation.
SHARE = 0.7


class Capacity:
    """Tells `limit` how many rows fit, from the memory that a group's calls took: the first, and each larger one."""

    def __init__(self, limit: Callable[[Hashable, int], None]) -> None:
        self._limit = limit
        self._largest: dict[Hashable, int] = {}

    @contextmanager
    def measured(self, group: Hashable, bucket: int, device: torch.device) -> Iterator[None]:
        """Around one model call. Reads the allocator's books only, so nothing waits for the GPU."""
        if device.type != "cuda" or bucket <= self._largest.get(group, 0):
            yield
            return
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield
        self._largest[group] = bucket
        used = torch.cuda.max_memory_allocated(device) - before
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + idle
        self._limit(group, max(1, int(SHARE * free * bucket / max(used, 1))))
