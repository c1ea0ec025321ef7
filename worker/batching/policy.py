"""Which waiting denoiser calls go together, and when. Arithmetic alone: no threads, no clock, no torch.

What holds (n: images in flight, each with one call at a time; C: seconds of the longest model call):

- *No loss, no double*: a batch names each of its calls once; a call waits until a batch names it.
- *Groups*: the calls of a batch are of one group. A solo call goes alone, in the smallest bucket that holds it.
- *Caps*: a batch's rows fit its bucket, and this the group's `cap`. A call of more rows goes alone, for the owner to
  divide; no other is divided.
- *Order*: calls of a group go in the order in which they came, and so do groups that are ready.
- *Standing still*: while urgent images are in their steps, the calls of others wait, but for a `share` of the time; and
  those go with urgent calls of their group that make these no longer than `JOIN` allows. Of the urgent, and of the
  others, the order holds.
- *Waiting bound*: no urgent call waits longer than C + n * (window + 2 * C). A ready group is passed only by calls that
  came earlier, and by each once. One that is not ready becomes so `window` after its oldest call came or its last
  batch ended; what began before has to end. Another call waits at most n * C / share longer: at least so often those
  who stand still have their turn.
- *Company pays*: nobody waits for company longer than company saves by the measured step times.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from darkroom.worker.batching.groups import Group, smallest, up_to, without
from darkroom.worker.batching.standing import JOIN, NOBODY, SHARE, Expected, Standing

BUCKETS = (1, 2, 4, 8, 16, 32)
GROUPS = 1024  # remembered; every size and every scale of an adapter makes another
GAPS = 9  # measurements; the median counts
NOTICEABLE = 0.05  # of the step time; less is within what measurements vary by, and no reason to wait


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


class Policy:
    """Chooses among waiting calls; learns from what its owner measures. Times are seconds. Not thread-safe."""

    def __init__(
        self, buckets: Sequence[int] = BUCKETS, max_rows: int = 32, window: float = 0.1, share: float = SHARE
    ) -> None:
        """`max_rows`: of one model call, with padding. `window`: the longest that the model stands still for company.

        `share`: of the time, that others than the urgent have beside these. Raises ValueError.
        """
        self._buckets = tuple(sorted(buckets))
        self._max_rows, self._window = max_rows, window
        self.standing = Standing(share)
        self._groups: dict[Hashable, Group] = {}  # the least recently used first
        self._dropped: dict[Hashable, tuple[int, ...]] = {}  # by kin, in their order
        self._gaps: deque[float] = deque([0.0], maxlen=GAPS)  # a caller
        self._running: tuple[Group, int] | None = None  # the newest batch and its calls, until it has ended
        self._callers = 1  # of the newest batch that has ended

    def choose(
        self,
        waiting: Sequence[Waiting],
        coming: int | Mapping[Hashable, int],
        now: float,
        expected: Expected = NOBODY,
    ) -> Batch | float | None:
        """The batch to run now; else when to ask again if no call comes or leaves before; None where nothing waits.

        To be asked when the model is free. `coming`: images that are to call again, by group, or in whichever; the
        urgent ones among them are `expected`.
        """
        self.ended(now)
        urgent = [index for index, call in enumerate(waiting) if call.urgent]
        others = [index for index, call in enumerate(waiting) if not call.urgent]
        beside = False
        if (others or expected.others) and (urgent or expected.until > now):
            if not (others and self.standing.due):
                return self._stand(waiting, urgent, others, coming, now, expected)
            urgent, coming, beside = [], 0, True
        chosen = self._among(waiting, [*urgent, *others], coming, now)
        if others and isinstance(chosen, Batch):
            self.standing.went(self._seconds(waiting, chosen), beside=beside)
        return chosen

    def _among(
        self, waiting: Sequence[Waiting], of: Iterable[int], coming: int | Mapping[Hashable, int], now: float
    ) -> Batch | float | None:
        later = []
        for indices in _together(waiting, of):
            calls = [waiting[index] for index in indices]
            group = self._group(calls[0].group)
            more = coming if isinstance(coming, int) else coming.get(calls[0].group, 0)
            ready = self._ready(group, calls, more)
            if ready <= now:
                count, bucket = _first_part(group, calls)
                self._running = None if calls[0].solo else (group, count)  # nobody waits for a solo call's caller
                return Batch(tuple(indices[:count]), bucket)
            later.append(ready)
        return min(later, default=None)

    def _stand(
        self,
        waiting: Sequence[Waiting],
        urgent: list[int],
        others: list[int],
        coming: int | Mapping[Hashable, int],
        now: float,
        expected: Expected,
    ) -> Batch | float:
        """While the others stand still: a batch of urgent ones, with those who may join, or when to ask again."""
        chosen = self._among(waiting, urgent, expected.coming, now)
        if isinstance(chosen, Batch):
            chosen = self._joined(waiting, others, chosen)
            name = waiting[chosen.calls[0]].group
            more = 0 if isinstance(coming, int) else coming.get(name, 0) - expected.coming.get(name, 0)
            ready = self._join_until([waiting[index] for index in chosen.calls], more)
            if ready <= now:
                self.standing.stood(self._seconds(waiting, chosen))
                return chosen
            chosen, self._running = ready, None
        self.standing.idles(now)
        return min(expected.until if chosen is None else chosen, now + self.standing.due_in)

    def _join_until(self, calls: Sequence[Waiting], coming: int) -> float:
        """Until when urgent calls wait for those who step and may join them: no longer than `JOIN` leaves."""
        group, urgent = self._group(calls[0].group), [call for call in calls if call.urgent]
        rows, own = sum(call.rows for call in calls), group.bucket(sum(call.rows for call in urgent))
        together = group.bucket(rows + round(coming * rows / len(calls)))
        if calls[0].solo or not coming or rows >= group.no_dearer(own, JOIN):
            return 0.0
        left = JOIN * group.costs.of(own) - group.costs.of(min(together, group.no_dearer(own, JOIN)))
        return max(min(call.since for call in urgent), group.released) + left

    def _seconds(self, waiting: Sequence[Waiting], batch: Batch) -> float:
        """That it will take, by the measured times: a GPU's own end later than they begin."""
        return self._group(waiting[batch.calls[0]].group).costs.of(batch.bucket)

    def _joined(self, waiting: Sequence[Waiting], others: list[int], batch: Batch) -> Batch:
        first = waiting[batch.calls[0]]
        group = self._group(first.group)
        rows = sum(waiting[index].rows for index in batch.calls)
        if first.solo or rows > batch.bucket:
            return batch
        most = group.no_dearer(batch.bucket, JOIN)
        calls = list(batch.calls)
        for indices in _together(waiting, others):
            if waiting[indices[0]].group != first.group or waiting[indices[0]].solo:
                continue
            for index in indices:
                if rows + waiting[index].rows > most:
                    break
                rows += waiting[index].rows
                calls.append(index)
        self._running = (group, len(calls))
        return replace(batch, calls=tuple(calls), bucket=group.bucket(rows))

    def ended(self, now: float) -> None:
        """The newest batch is done and its callers let go, if nobody has said so yet; `choose` takes it for so."""
        self.standing.ended(now)
        if self._running:
            group, self._callers = self._running
            group.released, self._running = now, None

    def ran(self, group: Hashable, bucket: int, seconds: float) -> None:
        """A model call's time."""
        self._group(group).costs.ran(bucket, seconds)

    def gap(self, seconds: float) -> None:
        """How long the model stood still from the end of the newest batch to the last of its callers' next call."""
        self._gaps.append(seconds / self._callers)  # they step one after another, under the interpreter's lock

    def limit(self, group: Hashable, rows: int) -> None:
        """Memory has room for so many rows, padding included. Only ever less; the smallest bucket is always tried."""
        mine = self._group(group)
        mine.buckets = up_to(mine.buckets, rows)

    def drop(self, bucket: int, group: Hashable) -> None:
        """Use it no more for this group and its kin, which begin with the same module; but the last one stays."""
        kin = _kin(group)
        self._dropped[kin] = (*self._dropped.get(kin, ()), bucket)
        for name, found in self._groups.items():
            if _kin(name) == kin:
                found.buckets = without(found.buckets, bucket)

    def cap(self, group: Hashable) -> int:
        """The most rows of one model call; a bucket."""
        return self._group(group).cap

    def bucket_for(self, group: Hashable, rows: int) -> int:
        """The smallest bucket that holds the rows, though memory may not; the largest where none does."""
        return smallest(self._usable(group), rows)

    def _usable(self, group: Hashable) -> tuple[int, ...]:
        found = self._buckets
        for bucket in self._dropped.get(_kin(group), ()):
            found = without(found, bucket)
        return found

    def _group(self, name: Hashable) -> Group:
        found = self._groups.pop(name, None) or Group(up_to(self._usable(name), self._max_rows))
        self._groups[name] = found
        if len(self._groups) > GROUPS:
            del self._groups[next(iter(self._groups))]
        return found

    def _ready(self, group: Group, calls: Sequence[Waiting], coming: int) -> float:
        """From when on these are to run, though not all have come."""
        if not coming:
            return 0.0
        here = sum(call.rows for call in calls)
        more = round(coming * here / len(calls))
        together = group.price(here + more)
        saved = group.price(here) + group.price(more) - together
        if calls[0].solo or saved <= NOTICEABLE * together or self._halves(group, len(calls), coming, here + more):
            return 0.0
        return max(min(call.since for call in calls), group.released) + min(saved, self._window)

    def _halves(self, group: Group, here: int, coming: int, rows: int) -> bool:
        """Half are here, and two halves in turn take less time than all at once and the gap until all are back."""
        images, half = here + coming, rows // 2
        in_turn = group.price(half) + group.price(rows - half)
        return here >= images // 2 and in_turn < group.price(rows) + median(self._gaps) * images


def _together(waiting: Sequence[Waiting], of: Iterable[int]) -> Iterator[list[int]]:
    """Indices of calls that may go together, in the order in which they came; so are the lists."""
    found: dict[Hashable, list[int]] = {}
    for index in sorted(of, key=lambda index: waiting[index].since):
        call = waiting[index]
        found.setdefault((call.group, index if call.solo else None), []).append(index)
    yield from found.values()


def _first_part(group: Group, calls: Sequence[Waiting]) -> tuple[int, int]:
    """How many of the calls go first, and in which bucket: least time for these and the cheapest way for the rest.

    Of several equally cheap the largest part, so that most go on soonest.
    """
    if len(calls) == 1:
        return 1, group.bucket(calls[0].rows)
    rows, here, found = sum(call.rows for call in calls), 0, []
    for count, call in enumerate(calls, 1):
        here += call.rows
        if here > group.cap and count > 1:
            break
        bucket = group.bucket(here)
        seconds = group.costs.of(bucket) + group.price(rows - here)
        found.append((round(seconds, 6), -count, bucket))
    _, count, bucket = min(found)
    return -count, bucket


def _kin(group: Hashable) -> Hashable:
    return group[0] if isinstance(group, tuple) and group else group
