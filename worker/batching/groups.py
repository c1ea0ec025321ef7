"""What a policy knows about the calls of one group: the sizes that may be used, and what they cost."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from darkroom.worker.batching.costs import Costs


@dataclass(slots=True)
class Group:
    """What is known about one group."""

    buckets: tuple[int, ...]  # that may be used
    released: float = 0.0  # when the callers of its last batch were let go
    costs: Costs = field(default_factory=Costs)

    @property
    def cap(self) -> int:
        """The most rows of one call."""
        return self.buckets[-1]

    def bucket(self, rows: int) -> int:
        """That so many rows run in."""
        return smallest(self.buckets, rows)

    def price(self, rows: int) -> float:
        """Seconds that they take, in one call or several."""
        return self.costs.price(rows, self.buckets)

    def no_dearer(self, bucket: int, times: float) -> int:
        """The largest bucket that costs at most so many times what this one does."""
        most = self.costs.of(bucket) * times
        return max(other for other in self.buckets if other == bucket or self.costs.of(other) <= most)


def smallest(buckets: Sequence[int], rows: int) -> int:
    """The smallest that holds the rows; the largest where none does."""
    return buckets[min(bisect_left(buckets, rows), len(buckets) - 1)]


def up_to(buckets: tuple[int, ...], rows: int) -> tuple[int, ...]:
    """Those of at most so many rows; the smallest always."""
    return tuple(bucket for bucket in buckets if bucket <= rows) or buckets[:1]


def without(buckets: tuple[int, ...], dropped: int) -> tuple[int, ...]:
    """All others; itself where there are none."""
    return tuple(bucket for bucket in buckets if bucket != dropped) or buckets
