"""A denoiser, its callers and a clock, all simulated: how a policy does under a load, and if it keeps its word."""

import heapq
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Self

from darkroom.worker.batching.crowd import STANDING
from darkroom.worker.batching.policy import Batch, Policy, Waiting
from darkroom.worker.batching.standing import Expected

Cost = Callable[[Hashable, int], float]
NEVER = float("inf")
EPSILON = 1e-9


@dataclass(eq=False)
class Image:
    """`steps` denoiser calls of `rows` rows. Cancelled when it `leaves`.

    After each it holds the interpreter's lock for `think` seconds, then spends `away` without it (an upload).
    """

    group: Hashable = "a"
    rows: int = 2
    steps: int = 4
    arrives: float = 0.0
    think: float = 0.003
    away: float = 0.0
    urgent: bool = True
    solo: bool = False
    leaves: float = NEVER
    done: int = 0
    ended: float = NEVER


@dataclass(frozen=True)
class Ran:
    """One model call."""

    began: float
    images: tuple[Image, ...]
    bucket: int


@dataclass
class _Round:
    """The callers of one model call, on their way to their next ones."""

    out: int
    began: float


class Simulation:
    """Runs all images to their end; asserts what the policy's module promises for each batch and each call."""

    def __init__(
        self, policy: Policy, cost: Cost, images: Sequence[Image], *, window: float = 0.1, share: float = 0.05
    ) -> None:
        self.policy, self.cost, self.images = policy, cost, images
        self.window, self.share = window, share
        self.now = 0.0
        self.batches: list[Ran] = []
        self.stood = 0.0  # seconds in which calls waited and nothing ran
        self._order = count()
        self._events: list[tuple[float, int, Callable[[Image], None], Image]] = []
        self._waiting: list[tuple[Image, Waiting]] = []
        self._stepping: dict[Image, _Round] = {}
        self._inside: set[Image] = set()
        self._peak = 0  # images in flight at once, until now
        self._slowest = 0.0  # model call, until now
        self._unlocked = 0.0
        for image in images:
            self._at(image.arrives, self._enters, image)
            self._at(image.leaves, self._leaves, image)

    def run(self) -> Self:
        while self._events or self._waiting:
            self._happen()
            waiting = [call for _, call in self._waiting]
            chosen = self.policy.choose(waiting, self._coming(), self.now, self._expected())
            if isinstance(chosen, Batch):
                self._run(chosen)
            else:
                self._stand_still(chosen)
        assert not self._inside
        return self

    @property
    def buckets(self) -> list[int]:
        return [ran.bucket for ran in self.batches]

    @property
    def ended(self) -> float:
        return max(image.ended for image in self.images)

    def _at(self, when: float, event: Callable[[Image], None], image: Image) -> None:
        if when < NEVER:
            heapq.heappush(self._events, (when, next(self._order), event, image))

    def _happen(self) -> None:
        """All that is due now; the clock reads each event's own time meanwhile."""
        now = self.now
        while self._events and self._events[0][0] <= now:
            self.now, _, event, image = heapq.heappop(self._events)
            event(image)
        self.now = now

    def _stand_still(self, until: float | None) -> None:
        assert (until is None) == (not self._waiting)
        assert until is None or until > self.now
        then = min(until or NEVER, self._events[0][0] if self._events else NEVER)
        if then == NEVER:
            return
        self.stood += then - self.now if self._waiting else 0.0
        self.now = then

    def _enters(self, image: Image) -> None:
        self._inside.add(image)
        self._peak = max(self._peak, len(self._inside))
        self._calls(image)

    def _calls(self, image: Image) -> None:
        if image not in self._inside:
            return
        self._returns(image)
        if image.done == image.steps:
            self._inside.remove(image)
            image.ended = self.now
        else:
            call = Waiting(image.group, image.rows, self.now, image.urgent, image.solo)
            self._waiting.append((image, call))

    def _leaves(self, image: Image) -> None:
        if image in self._inside:
            self._inside.remove(image)
            self._returns(image)
            self._waiting = [one for one in self._waiting if one[0] is not image]

    def _returns(self, image: Image) -> None:
        of = self._stepping.pop(image, None)
        if of:
            of.out -= 1
            if not of.out:
                self.policy.gap(self.now - of.began)

    def _coming(self) -> Counter[Hashable]:
        return Counter(image.group for image in self._stepping if not image.solo)

    def _expected(self) -> Expected:
        urgent = {image: of.began for image, of in self._stepping.items() if image.urgent}
        groups = Counter(image.group for image in urgent if not image.solo)
        return Expected(groups, max(urgent.values(), default=-NEVER) + STANDING)

    def _run(self, batch: Batch) -> None:
        chosen = [self._waiting[index] for index in batch.calls]
        images = tuple(image for image, _ in chosen)
        seconds = self.cost(images[0].group, batch.bucket)
        self._slowest = max(self._slowest, seconds)
        self._check_batch(batch)
        self._check_waits([call for _, call in chosen])
        self._waiting = [one for one in self._waiting if one not in chosen]
        self.batches.append(Ran(self.now, images, batch.bucket))
        self.now += seconds
        self._happen()
        self.policy.ran(images[0].group, batch.bucket, seconds)
        self._release(images)

    def _release(self, images: Sequence[Image]) -> None:
        together = _Round(0, self.now)
        for image in images:
            image.done += 1
            if image in self._inside:  # it was not cancelled meanwhile
                together.out += 1
                self._stepping[image] = together
                self._unlocked = max(self._unlocked, self.now) + image.think
                self._at(self._unlocked + image.away, self._calls, image)

    def _check_batch(self, batch: Batch) -> None:
        """Nobody twice, groups, solo, caps, order."""
        chosen = set(batch.calls)
        calls = [self._waiting[index][1] for index in batch.calls]
        assert calls and min(chosen) >= 0 and len(chosen) == len(calls)
        assert len({call.group for call in calls}) == 1
        assert len(calls) == 1 or not any(call.solo for call in calls)
        rows, cap = sum(call.rows for call in calls), self.policy.cap(calls[0].group)
        assert batch.bucket <= cap
        assert rows <= batch.bucket or (len(calls) == 1 and batch.bucket == cap)
        assert not calls[0].solo or batch.bucket == min(cap, self.policy.bucket_for(calls[0].group, rows))
        left = [call for index, (_, call) in enumerate(self._waiting) if index not in chosen]
        for urgent in (True, False):
            last = max((call.since for call in calls if call.urgent is urgent), default=-NEVER)
            alike = [call for call in left if call.group == calls[0].group and call.urgent is urgent and not call.solo]
            assert calls[0].solo or all(call.since >= last for call in alike)

    def _check_waits(self, calls: Sequence[Waiting]) -> None:
        bound = self._slowest + self._peak * (self.window + 2 * self._slowest)
        stood = self._peak * self._slowest / self.share if self.share else NEVER
        for call in calls:
            waited, most = self.now - call.since, bound + (0 if call.urgent else stood)
            assert waited <= most + EPSILON, f"waited {waited:.3f} s, more than {most:.3f} s"
