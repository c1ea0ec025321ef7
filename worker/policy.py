"""Which waiting denoiser calls go together, and when. Arithmetic alone: no threads, no clock, no torch.

What holds (n: images in flight, each with one call at a time; C: seconds of the longest model call):

- *No loss, no double*: a batch names each call once, and a waiting call stays until a batch names it.
- *Groups*: the calls of a batch have one group. A solo call goes alone, in the smallest bucket.
- *Caps*: a batch's rows fit its bucket, the bucket fits `cap`. One call of more rows goes alone, undivided.
- *Order*: a group's calls go in the order in which they are due, and so do groups that are ready. An urgent call is due
  when it comes, another `patience` later; so urgent ones go first, and nobody starves.
- *Waiting bound*: no call waits longer than n * (window + 2 * C) + C, one that is not urgent `patience` more.
  A ready group is passed only by calls that are due earlier, each of which can do that once; one that is not ready
  becomes so after its window, and what then runs has to end.
- *Company pays*: nobody waits for company longer than it saves by the measured step times.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, median_low

BUCKETS = (1, 2, 4, 8, 16, 32)
KEPT = 9  # measurements of one kind; the median is over these
FORGET = 256  # model calls of a group; a bucket not used in as many is tried anew, lest it stay shut by a slow hour
GROUPS = 1024  # groups remembered; callers make new ones with every size and every scale of an adapter
NOTICEABLE = 0.05  # of the step time; to save less is not worth waiting, and within what measurements vary by
ROW, FIXED = 0.005, 4  # seconds a row, rows that a call costs beside its own: assumed until a group's first call ran


@dataclass(frozen=True, slots=True)
class Waiting:
    """A denoiser call that waits. Calls of equal `group` may share a model call.

    `since`: when it came, in seconds. `urgent`: of the interactive lane. `solo`: goes alone, in the smallest bucket.
    """

    group: Hashable
    rows: int
    since: float
    urgent: bool = True
    solo: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """One model call: indices of waiting calls in the order of their rows, and the number of rows with padding."""

    calls: tuple[int, ...]
    bucket: int


@dataclass(slots=True)
class _Group:
    """What was learned about one group."""

    limit: int | None = None  # rows
    released: float = 0.0  # when the callers of its last batch were let go
    ran: int = 0
    used: set[int] = field(default_factory=set)  # buckets, since the last forgetting
    times: dict[int, deque[float]] = field(default_factory=dict)
    prices: list[float] = field(default_factory=list)  # by rows, the cheapest way to run so many; empty: out of date

    def measured(self, bucket: int, seconds: float) -> None:
        self.times.setdefault(bucket, deque(maxlen=KEPT)).append(seconds)
        self.used.add(bucket)
        self.ran += 1
        if self.ran % FORGET == 0:
            self.times = {bucket: self.times[bucket] for bucket in self.used}
            self.used = set()
        self.prices = []

    def cost(self, bucket: int) -> float:
        """Seconds of a model call. A single measurement may be a cold one: it is believed only if it is good."""
        known = self.times.get(bucket, ())
        if len(known) > 1:
            return median_low(known)
        return min(*known, self._estimate(bucket)) if known else self._estimate(bucket)

    def _estimate(self, bucket: int) -> float:
        """From the nearest other buckets, by a line; more rows never take less time, nor more than in proportion."""
        points = sorted((other, median_low(times)) for other, times in self.times.items() if other != bucket)
        if not points:
            return min(self.times.get(bucket, ()), default=_assumed(bucket))
        right = min(max(bisect_left(points, (bucket, 0.0)), 1), len(points) - 1)
        if not right:
            ((near, seconds),) = points
            return seconds * _assumed(bucket) / _assumed(near)
        (x, low), (y, high) = points[right - 1 : right + 1]
        near, seconds = (y, high) if bucket > y else (x, low)
        line = low + (high - low) * (bucket - x) / (y - x)
        least, most = sorted((seconds, seconds * bucket / near))
        return line if x < bucket < y else min(max(line, least), most)


class Policy:
    """Chooses among waiting calls; learns from what its owner measured. Not thread-safe. All times are seconds."""

    def __init__(
        self,
        buckets: Sequence[int] = BUCKETS,
        max_rows: int = 32,
        window: float = 0.1,
        patience: float = 1.0,
    ) -> None:
        """`window`: the longest that the model may stand still for company. `patience`: see the order of calls."""
        self._buckets = sorted(buckets)
        self._max_rows, self._window, self._patience = max_rows, window, patience
        self._groups: dict[Hashable, _Group] = {}
        self._gaps: deque[float] = deque([0.0], maxlen=KEPT)  # for one caller
        self._running: tuple[_Group, int] | None = None
        self._last = 1  # calls in the newest batch

    def choose(
        self, waiting: Sequence[Waiting], coming: int | Mapping[Hashable, int], now: float
    ) -> Batch | float | None:
        """The batch to run now; else when to ask again, if no call comes or leaves before; None where nothing waits.

        `coming`: images between two denoiser calls, of each group, or of any. To be asked when the model is free.
        """
        self._release(now)
        order = sorted(range(len(waiting)), key=lambda index: self._due(waiting[index]))
        times = []
        for group, calls in _by_group(waiting, order).items():
            if waiting[calls[0]].solo:
                return self._batch(waiting, calls)
            expected = coming if isinstance(coming, int) else coming.get(group[0], 0)
            ready = self._ready([waiting[index] for index in calls], expected)
            if ready <= now:
                return self._batch(waiting, calls[: self._first_part([waiting[index] for index in calls])])
            times.append(ready)
        return min(times, default=None)

    def ran(self, group: Hashable, bucket: int, seconds: float) -> None:
        """How long a model call took."""
        self._of(group).measured(bucket, seconds)

    def gap(self, seconds: float) -> None:
        """How long the model had to wait from handing rows back to the last of these callers' next call."""
        self._gaps.append(seconds / self._last)  # callers step one after another, under the interpreter's lock

    def limit(self, group: Hashable, rows: int) -> None:
        """Memory has room for so many rows, padding included; a larger number changes nothing."""
        mine = self._of(group)
        mine.limit, mine.prices = min(rows, mine.limit or rows), []

    def drop(self, bucket: int) -> None:
        """Use it no more; the smallest stays."""
        self._buckets = [one for one in self._buckets if one != bucket or one == self._buckets[0]]
        for group in self._groups.values():
            group.prices = []

    def cap(self, group: Hashable) -> int:
        """The most rows of one model call: a bucket."""
        return self._usable(self._of(group))[-1]

    def bucket_for(self, group: Hashable, rows: int) -> int:  # noqa: ARG002 - dropped for all
        """The smallest bucket that holds the rows, whether memory does or not; the largest where none does."""
        return self._buckets[min(bisect_left(self._buckets, rows), len(self._buckets) - 1)]

    def _of(self, group: Hashable) -> _Group:
        found = self._groups[group] = self._groups.pop(group) if group in self._groups else _Group()
        if len(self._groups) > GROUPS:
            del self._groups[next(iter(self._groups))]
        return found

    def _usable(self, group: _Group) -> list[int]:
        most = min(self._max_rows, group.limit or self._max_rows)
        return [bucket for bucket in self._buckets if bucket <= most] or self._buckets[:1]

    def _due(self, call: Waiting) -> float:
        return call.since if call.urgent else call.since + self._patience

    def _release(self, now: float) -> None:
        if self._running:
            group, self._last = self._running
            group.released, self._running = now, None

    def _batch(self, waiting: Sequence[Waiting], calls: Sequence[int]) -> Batch:
        group = waiting[calls[0]].group
        self._running = self._of(group), len(calls)
        bucket = self.bucket_for(group, sum(waiting[index].rows for index in calls))
        return Batch(tuple(calls), min(bucket, self.cap(group)))

    def _ready(self, calls: Sequence[Waiting], coming: int) -> float:
        """When these are to run though not all have come."""
        here, group = sum(call.rows for call in calls), calls[0].group
        more = round(here / len(calls) * coming)
        price = self._price(group, here + more)
        saved = self._price(group, here) + self._price(group, more) - price
        if saved <= NOTICEABLE * price or self._enough(calls, coming, here + more):
            return 0.0
        first = max(min(call.since for call in calls), self._of(group).released)
        return first + min(saved, self._window)

    def _enough(self, calls: Sequence[Waiting], coming: int, rows: int) -> bool:
        """Half of them, where two halves in turn take less time than all at once and the gap until all are back."""
        group, images = calls[0].group, len(calls) + coming
        halves = self._price(group, rows // 2) + self._price(group, rows - rows // 2)
        return len(calls) >= images // 2 and halves < self._price(group, rows) + median(self._gaps) * images

    def _first_part(self, calls: Sequence[Waiting]) -> int:
        """How many of them: the part that, with the rest in its cheapest way, takes the least time."""
        group, rows = calls[0].group, sum(call.rows for call in calls)
        cap, here, found = self.cap(group), 0, []
        for count, call in enumerate(calls, 1):
            here += call.rows
            if here > cap and count > 1:
                break
            both = self._cost(group, here) + self._price(group, rows - here)
            found.append((round(both, 6), -count))
        return -min(found)[1]

    def _cost(self, group: Hashable, rows: int) -> float:
        return self._of(group).cost(self.bucket_for(group, rows))

    def _price(self, group: Hashable, rows: int) -> float:
        """Seconds for so many rows, in as many model calls as is cheapest."""
        mine = self._of(group)
        usable = [(bucket, mine.cost(bucket)) for bucket in self._usable(mine)] if len(mine.prices) <= rows else []
        mine.prices = mine.prices or [0.0]
        while len(mine.prices) <= rows:
            count = len(mine.prices)
            mine.prices.append(min(cost + mine.prices[max(0, count - bucket)] for bucket, cost in usable))
        return mine.prices[rows]


def _assumed(rows: int) -> float:
    return ROW * (FIXED + rows)


def _by_group(waiting: Sequence[Waiting], order: Sequence[int]) -> dict[tuple[Hashable, int], list[int]]:
    """Calls that may go together, by group and for solo ones by themselves; all in the given order."""
    found: dict[tuple[Hashable, int], list[int]] = {}
    for index in order:
        call = waiting[index]
        found.setdefault((call.group, index if call.solo else -1), []).append(index)
    return found
