"""Places for interactive jobs alone: which knocks they read, and when."""

import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from darkroom.tasks import TaskSettings
from darkroom.tasks.message import knock
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.process.reserve import READ_SECONDS, Reserve
from darkroom.worker.process.turns import Turns

JOBS = [f"00000000-0000-7000-8000-00000000000{number}" for number in range(4)]
PATIENCE = 20.0


class Bench:
    """A reserve of places whose jobs last until they are let go."""

    def __init__(self, settings: TaskSettings, raw: "redis.Redis[str]") -> None:
        self.io, self.raw, self.prefix = BlockingIO(settings), raw, settings.redis_prefix
        self.turns, self.drain = Turns(["sdxl"]), Drain(20)
        self.began, self.gone = queue.Queue[str](), threading.Semaphore(0)
        self.usable = True

    def reserve(self, count: int = 1, beside: int = 1) -> Reserve:
        return Reserve(
            self.io, self.turns, self._run, self.drain, count=count, beside=beside, may_take=lambda: self.usable
        )

    def knock(self, job: str, lane: str = "interactive") -> None:
        self.raw.lpush(self.key(lane), knock(job, f"queue:sdxl:{lane}"))

    def key(self, lane: str) -> str:
        return f"{self.prefix}queue:sdxl:{lane}"

    def _run(self, job: str) -> None:
        with self.turns.running("interactive"):
            self.began.put(job)
            assert self.gone.acquire(timeout=PATIENCE)


@pytest.fixture
def bench(task_settings: TaskSettings, raw: "redis.Redis[str]") -> Iterator[Bench]:
    bench = Bench(task_settings, raw)
    yield bench
    bench.io.close()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_interactive_knocks_are_read_while_others_are_in_all_places(bench: Bench) -> None:
    bench.knock(JOBS[0])
    bench.knock(JOBS[1], "bulk")
    with bench.reserve():
        with bench.turns.running("interactive"), pytest.raises(queue.Empty):
            bench.began.get(timeout=0.6)  # longer than two reads would take
        with bench.turns.running("bulk"):
            assert bench.began.get(timeout=PATIENCE) == JOBS[0]
            bench.gone.release()
    assert bench.raw.llen(bench.key("bulk")) == 1
    assert bench.began.empty()


def test_as_many_as_there_are_places_begin(bench: Bench) -> None:
    for job in JOBS[:3]:
        bench.knock(job)
    with bench.turns.running("bulk"), bench.turns.running("bulk"), bench.reserve(count=2, beside=2):
        assert {bench.began.get(timeout=PATIENCE), bench.began.get(timeout=PATIENCE)} == set(JOBS[:2])
        with pytest.raises(queue.Empty):
            bench.began.get(timeout=0.6)
        bench.gone.release()
        assert bench.began.get(timeout=PATIENCE) == JOBS[2]
        bench.gone.release(2)


def test_nothing_is_taken_while_the_store_is_away_or_the_worker_stops(bench: Bench) -> None:
    bench.usable = False
    bench.knock(JOBS[0])
    with bench.turns.running("bulk"), bench.reserve() as reserve:
        with pytest.raises(queue.Empty):
            bench.began.get(timeout=0.6)
        bench.drain.begin()
        until(lambda: not any(thread.is_alive() for thread in reserve.threads))
    assert bench.raw.llen(bench.key("interactive")) == 1


def test_a_worker_of_no_interactive_lane_looks_now_and_then(bench: Bench) -> None:
    """A thread that looks without end takes the interpreter from all others."""
    looks: list[float] = []
    third = threading.Event()

    def may_take() -> bool:
        looks.append(time.monotonic())
        if len(looks) == 3:
            third.set()
        return True

    bench.turns = Turns(["sdxl"], ["training"])
    reserve = Reserve(bench.io, bench.turns, bench.began.put, bench.drain, count=1, beside=1, may_take=may_take)
    with bench.turns.running("training"), reserve:
        assert third.wait(PATIENCE)
    assert looks[2] - looks[0] >= READ_SECONDS


def test_bytes_that_are_no_knock_are_put_aside_and_a_job_that_raises_costs_no_place(bench: Bench) -> None:
    ran = threading.Event()

    def run(job: str) -> None:
        bench.began.put(job)
        if not ran.is_set():
            ran.set()
            raise SystemExit(3)

    bench.raw.lpush(bench.key("interactive"), "no knock")
    bench.knock(JOBS[0])
    bench.knock(JOBS[1])
    with bench.turns.running("bulk"), Reserve(bench.io, bench.turns, run, bench.drain, count=1, beside=1):
        assert [bench.began.get(timeout=PATIENCE) for _ in range(2)] == JOBS[:2]
    (kept,) = bench.raw.lrange(f"{bench.prefix}garbage", 0, -1)
    assert "not a knock" in str(kept)
    assert bench.raw.ttl(f"{bench.prefix}garbage") > 0


def test_a_redis_that_refuses_is_asked_again(bench: Bench) -> None:
    bench.raw.set(bench.key("interactive"), "of another type")
    with bench.turns.running("bulk"), bench.reserve():
        with pytest.raises(queue.Empty):
            bench.began.get(timeout=0.6)
        bench.raw.delete(bench.key("interactive"))
        bench.knock(JOBS[0])
        assert bench.began.get(timeout=PATIENCE) == JOBS[0]
        bench.gone.release()
