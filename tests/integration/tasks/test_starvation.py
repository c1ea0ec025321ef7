"""Nobody starves: how much is started before a job at most, on a floor with all kinds of tenants.

Take the first job of a tenant of weight w, whose job before it cost l. Until it starts, every other tenant of weight v
is started jobs of l * v / w + m in cost at most, where m is its largest job. For a newcomer l is nothing. (Goyal, Vin,
Cheng: SIGCOMM 1996, theorem 1.) Behind newcomers without end it is served once they have had four times its cost.
"""

import heapq
import random
from collections import defaultdict
from dataclasses import dataclass, field

import pytest

from darkroom.tasks.claims import Refusal

from .floor import PACE_MS, Floor, Start

ROUNDING = 0.1  # of cost: newcomers go before others by less than that


@dataclass
class Tenant:
    """One of a simulation: how it submits, and what it has had."""

    name: str
    weight: float
    images: int
    at_a_time: int
    pause: float
    due: float = 0.0
    waits_since: dict[str, float] = field(default_factory=dict)  # what others had had when its first job began to wait
    last: float = 0.0


def crowd(draw: random.Random, number: int) -> list[Tenant]:
    """Some submit many jobs at once, others one now and then; weights from a tenth to ten."""
    return [
        Tenant(
            f"t{i}", draw.choice([0.1, 0.5, 1, 1, 1, 3, 10]), draw.choice([1, 1, 2, 4, 16]),
            draw.choice([1, 1, 3, 30]), draw.choice([1.0, 10.0, 60.0]), draw.uniform(0, 60),
        )
        for i in range(number)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_how_much_goes_before_a_job_at_most(floor: Floor, seed: int) -> None:
    draw = random.Random(seed)
    tenants = {one.name: one for one in crowd(draw, 12)}
    for one in tenants.values():
        floor.client.set_limits(one.name, weight=one.weight)
    simulation = Simulation(floor, tenants, workers=3)
    simulation.run(draw, starts=250)
    assert simulation.most_waited > 0  # the bound was put to the test
    assert len(simulation.had) == len(tenants)


class Simulation:
    """Workers that are never idle while jobs wait, in virtual time, and the bound at each start."""

    def __init__(self, floor: Floor, tenants: dict[str, Tenant], workers: int) -> None:
        self.floor, self.tenants, self.workers = floor, tenants, workers
        self.had: dict[str, float] = defaultdict(float)
        self.largest: dict[str, float] = defaultdict(float)
        self.running: list[tuple[float, int, Start]] = []
        self.number = 0
        self.most_waited = 0.0

    def run(self, draw: random.Random, starts: int) -> None:
        while self.number < starts:
            self._submit(draw)
            while len(self.running) < self.workers and self._start():
                pass
            self._pass(min([one.due for one in self.tenants.values()] + [end for end, *_ in self.running]))
        while self.running:
            self._pass(self.running[0][0])

    def _submit(self, draw: random.Random) -> None:
        for one in self.tenants.values():
            if one.due <= self.floor.now + 0.0005:
                self.floor.submit(one.name, draw.randint(1, one.at_a_time), num_images=draw.randint(1, one.images))
                one.due = self.floor.now + draw.expovariate(1 / one.pause) + 0.001
                if not one.waits_since:
                    one.waits_since = dict(self.had) | {"": 0}

    def _start(self) -> bool:
        claim = self.floor.ask()
        if isinstance(claim, Refusal):
            return False
        start = self.floor.started(claim)
        one = self.tenants[start.tenant]
        self._check(one)
        self.had[one.name] += start.cost
        self.largest[one.name] = max(start.cost, self.largest[one.name])
        one.last = start.cost
        waits = self.floor.raw.zcard(self.floor.key("index", "queued", one.name))
        one.waits_since = dict(self.had) | {"": 0} if waits else {}
        self.number += 1
        heapq.heappush(self.running, (self.floor.now + round(start.cost * PACE_MS) / 1000, self.number, start))
        return True

    def _check(self, one: Tenant) -> None:
        """Those that a job of this tenant waited for had no more than the bound says."""
        for other, cost in self.had.items():
            since = cost - one.waits_since.get(other, 0)
            if other == one.name or not since:
                continue
            most = one.last * self.tenants[other].weight / one.weight + self.largest[other]
            assert since <= most + ROUNDING * self.tenants[other].weight, (one, other)
            self.most_waited = max(self.most_waited, since / most)

    def _pass(self, until: float) -> None:
        self.floor.pass_time(max(1, round(1000 * (until - self.floor.now))) / 1000)
        while self.running and self.running[0][0] <= self.floor.now + 0.0005:
            self.floor.end(heapq.heappop(self.running)[2])
