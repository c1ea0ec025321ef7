"""A worker tells of the steps of those jobs that somebody watches, and of no other's."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from darkroom.tasks import JobHandle, State
from darkroom.tasks.job import Progress

from .processes import PATIENCE, Process
from .studio import Studio

LATE = 1.2  # seconds until the first step is told, from when somebody watches
STOPPED = 1.0  # seconds until a step hears of a cancel
SLACK = 1.0  # of a busy machine
EVENTS, WATCHED = "studio:events:{}", "studio:watched:{}"


@pytest.fixture
def at_work(studio: tuple[Studio, Process]) -> Studio:
    return studio[0]


@pytest.fixture
def long(at_work: Studio) -> Iterator[JobHandle]:
    """A job that nobody watches, a while after its start: how far it is is known from a renewal."""
    handle = at_work.submit_long()
    until(lambda: handle.get().progress)
    yield handle
    handle.cancel()
    handle.wait(PATIENCE)


def until(true: Callable[[], Any]) -> Any:
    """Asks again and again until it is true; a worker that is broken never comes so far."""
    deadline = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < deadline
    return found


def told(raw: "redis.Redis[str]", handle: JobHandle, after: str = "-") -> list[str]:
    """Types of the events in the job's stream, read behind everybody's back."""
    return [entry["type"] for _, entry in raw.xrange(EVENTS.format(handle.id), after)]


def further(handle: JobHandle, than: Progress | None) -> Progress:
    """How far it is once it is further."""
    found: Progress = until(lambda: (now := handle.get().progress) != than and now)
    return found


def test_of_a_job_that_nobody_watches_no_step_is_told(long: JobHandle, raw: "redis.Redis[str]") -> None:
    """How far it is its record has all the same, and a cancel ends it."""
    first = long.get().progress
    second = further(long, first)
    assert first and (second.image, second.step) != (first.image, first.step)
    assert told(raw, long) == ["job.queued", "job.started"]
    assert not raw.exists(f"studio:preview:{long.id}")
    began = time.time()
    assert long.cancel() == "cancellation_requested"
    assert long.wait(PATIENCE).state is State.CANCELED
    ended = list(long.watch())[-1]
    assert (ended.type, told(raw, long)) == ("job.canceled", ["job.queued", "job.started", "job.canceled"])
    assert ended.time - began < STOPPED + SLACK


def test_who_comes_late_sees_the_steps_from_now_on(long: JobHandle) -> None:
    began = time.time()
    steps = (event for event in long.watch() if event.type == "job.progress")
    first, second = next(steps), next(steps)
    assert first.time - began < LATE + SLACK
    assert first.data["image"] != second.data["image"] or first.data["step"] <= second.data["step"]
    shown = next(event for event in steps if event.data["preview"])
    assert shown.time - began < LATE + 2 * SLACK


def test_any_reader_of_redis_sees_steps_by_one_command(long: JobHandle, raw: "redis.Redis[str]") -> None:
    """And sees them no more once it has left no word for a while."""
    stream, word = EVENTS.format(long.id), WATCHED.format(long.id)
    (newest, _), *_ = raw.xrevrange(stream, count=1)
    assert raw.execute_command("SET", word, "1", "EX", "10")
    began = time.time()
    ((_, entries),) = raw.xread({stream: newest}, block=round(PATIENCE * 1000))
    assert entries[0][1]["type"] == "job.progress"
    assert float(entries[0][1]["time"]) - began < LATE + SLACK
    assert json.loads(entries[0][1]["data"]).keys() == {"image", "step", "of", "preview"}
    raw.delete(word)  # as if it had expired

    def silent() -> bool:
        """While the job goes on, over two renewals."""
        before, progress = raw.xlen(stream), long.get().progress
        further(long, further(long, progress))
        return raw.xlen(stream) == before

    until(silent)


def test_a_picture_that_somebody_waits_for_is_told_of_without_its_steps(
    at_work: Studio, raw: "redis.Redis[str]"
) -> None:
    handle = at_work.submit(num_images=4, num_inference_steps=20)
    handle.wait(PATIENCE)
    assert told(raw, handle) == ["job.queued", "job.started", *["job.image"] * 4, "job.succeeded"]
