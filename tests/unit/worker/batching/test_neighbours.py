"""Whether others want the cores, as Linux tells it, and what OpenMP's threads do then."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from structlog.testing import capture_logs

from darkroom.worker.batching import neighbours as neighbours_module
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.neighbours import LOOK_SECONDS, MOST_IDLE, Neighbours, seconds_waited
from darkroom.worker.batching.threads import cores

TEAM = max(2, cores())
GIVE_UP_SECONDS = 60.0


class Told:
    """What Linux says, as a test would have it."""

    def __init__(self) -> None:
        self.now = (100.0, 7.0)

    def __call__(self) -> tuple[float, float]:
        return self.now

    def add(self, computed: float, waited: float) -> None:
        self.now = self.now[0] + computed, self.now[1] + waited


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """It may be asked at any time."""
    monkeypatch.setattr(neighbours_module, "EVERY_SECONDS", 0.0)
    return Told()


@pytest.fixture
def neighbours(told: Told) -> Iterator[Neighbours]:
    found = Neighbours(TEAM, told)
    found.look()
    yield found
    found.forget()


def test_what_was_before_the_first_look_does_not_count_for_long(told: Told, neighbours: Neighbours) -> None:
    assert not neighbours.here


def test_neighbours_come_and_go(told: Told, neighbours: Neighbours) -> None:
    with capture_logs() as logs:
        told.add(1.0, 0.5)
        neighbours.look()
        assert neighbours.here
        told.add(1.0, 0.1)  # less than what calls for it, but not nothing
        neighbours.look()
        assert neighbours.here
        told.add(1.0, 0.01)
        neighbours.look()
        assert not neighbours.here
        told.add(1.0, 0.1)
        neighbours.look()
        assert not neighbours.here
    assert [(log["event"], log["waited_share"]) for log in logs] == [
        ("batch.cores_shared", 0.33),
        ("batch.cores_free", 0.01),
    ]


def test_a_moment_tells_nothing(told: Told, neighbours: Neighbours) -> None:
    for _ in range(4):
        told.add(0.0, LOOK_SECONDS / 5)
        neighbours.look()
        assert not neighbours.here
    told.add(0.0, LOOK_SECONDS / 4)
    neighbours.look()
    assert neighbours.here


@pytest.mark.parametrize("threads", [1, cores() + 1, cores() + 1 - (MOST_IDLE + 1)])
def test_teams_that_nothing_is_to_be_done_about(told: Told, threads: int) -> None:
    """Alone; larger than the machine, so that its threads sleep anyway; few beside many cores."""
    found = Neighbours(threads, told)
    found.look()
    told.add(1.0, 1.0)
    found.look()
    assert not found.here


def test_where_nobody_tells_all_stays_as_it_is() -> None:
    found = Neighbours(TEAM, lambda: (0.0, 0.0))
    found.look()
    assert not found.here


def test_threads_to_come_begin_with_one_as_before(told: Told, neighbours: Neighbours) -> None:
    told.add(1.0, 1.0)
    neighbours.look()
    begun: list[int] = []
    thread = threading.Thread(target=lambda: begun.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert begun == [1]


def test_a_call_gives_the_same_bits_beside_neighbours(told: Told) -> None:
    left, right = torch.randn(257, 513), torch.randn(513, 129)

    def made() -> torch.Tensor:
        return torch.softmax(left @ right, 1)

    with Engine(TEAM) as engine:
        found = engine._neighbours = Neighbours(TEAM, told)
        alone = engine.call(made)
        engine.call(found.look)
        told.add(1.0, 1.0)
        engine.call(found.look)
        assert found.here
        assert torch.equal(engine.call(made), alone)
    assert not found.here  # the engine's end is theirs


# Threads that wait for ever but for neighbours: what the process computes while it sleeps is their looping.
LOOPING = """
import json, time, torch
from darkroom.worker.batching import neighbours
from darkroom.worker.batching.threads import cores, set_threads

neighbours.EVERY_SECONDS = 0.0
now = [1.0, 1.0]
found = neighbours.Neighbours(cores(), lambda: tuple(now))
set_threads(cores())

def looped(seconds):
    "How much within so many; no longer than it takes to be sure of it, since others may have the cores."
    torch.zeros(1 << 22).add_(1)
    began, before = time.monotonic(), time.process_time()
    while (found := time.process_time() - before) < 0.2 and time.monotonic() - began < seconds:
        time.sleep(0.05)
    return found

def look(waited, seconds):
    now[0] += 1.0
    now[1] += waited
    found.look()
    return looped(seconds)

before, beside = looped(30), look(1.0, 0.5)
# The idle team's threads are told to end, and looping begins again once they have.
after = next((found for found in (look(0.0, 1.5) for _ in range(20)) if found > 0.1), 0.0)
print(json.dumps([before, beside, after]))
"""


@pytest.mark.skipif(cores() < 2, reason="a team of one thread waits for nobody")
def test_the_threads_of_the_team_sleep_beside_neighbours() -> None:
    environment = {**os.environ, "GOMP_SPINCOUNT": "infinity"}
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", LOOPING], env=environment, capture_output=True, text=True, check=True)
    before, beside, after = json.loads(done.stdout.splitlines()[-1])
    assert beside < 0.05 and min(before, after) > 0.1


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but compute."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.skipif(seconds_waited() == (0.0, 0.0), reason="this system does not tell how long a thread waits")
@pytest.mark.skipif(cores() < 2, reason="a team of one thread waits for nobody")
def test_an_engine_finds_its_neighbours() -> None:
    """Real ones: twice as many programs as there are cores."""
    sample, weights = torch.randn(32, 512), torch.randn(512, 8192)
    with Engine(cores()) as engine, engine.image() as ticket, busy(2 * cores()):
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while not engine._neighbours.here:
            engine.denoise(lambda rows: rows @ weights, (sample,), {}, ticket)
            assert time.monotonic() < deadline


def test_a_thread_that_sleeps_does_not_wait_for_a_core() -> None:
    before = seconds_waited()
    time.sleep(0.2)
    assert sum(seconds_waited()) - sum(before) < 0.1
