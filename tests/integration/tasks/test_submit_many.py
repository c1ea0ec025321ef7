"""Any number of requests: in order, refusals in their places, in flat memory, and what a dying server leaves."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import (
    AsyncDarkroom,
    Darkroom,
    IdempotencyConflict,
    InvalidRequest,
    Outcome,
    QueueError,
    QueueUnavailable,
    TaskSettings,
    Txt2Img,
)
from darkroom.tasks.chunks import BATCH
from tests.integration.hand import Hand

from .conftest import Faces, within


def cats(count: int) -> Iterator[dict[str, Any]]:
    return ({"prompt": f"cat {number}", "seed": number, "lane": "bulk"} for number in range(count))


def test_jobs_come_out_in_the_order_in_which_they_went_in(client: Darkroom) -> None:
    outcomes = list(client.submit_many(cats(2 * BATCH + 10)))
    jobs = [outcome.job for outcome in outcomes if outcome.job]
    assert [outcome.index for outcome in outcomes] == list(range(2 * BATCH + 10))
    assert [job.seeds for job in jobs] == [[number] for number in range(2 * BATCH + 10)]
    assert [client.position(job.id) for job in (jobs[0], jobs[150])] == [(0, None), (150, None)]
    newest = client.jobs(limit=3)
    assert [job.request.prompt for job in newest] == ["cat 265", "cat 264", "cat 263"]


def test_refusals_stand_in_their_places(client: Darkroom) -> None:
    client.submit(Txt2Img(prompt="taken", idempotency_key="k"))
    requests = [
        Txt2Img(prompt="one"),
        {"prompt": "", "width": 513},
        Txt2Img(prompt="other", idempotency_key="k"),
        Txt2Img(prompt="taken", idempotency_key="k"),
        {"prompt": "two", "model": "none-such"},
        Txt2Img(prompt="three"),
    ]
    good, bad, conflict, repeated, unknown, last = client.submit_many(requests)
    assert isinstance(bad.error, InvalidRequest)
    assert [fault.field for fault in bad.error.faults] == ["prompt", "width"]
    assert isinstance(conflict.error, IdempotencyConflict)
    assert isinstance(unknown.error, InvalidRequest)
    assert repeated.job is not None
    assert repeated.job.repeated
    assert good.job is not None
    assert last.job is not None
    assert not good.job.repeated
    assert len(client.jobs()) == 3


def test_nothing_in_nothing_out(client: Darkroom) -> None:
    assert list(client.submit_many([])) == []


def test_requests_are_taken_as_they_come(client: Darkroom) -> None:
    """Not all of the source is read before the first outcome is had."""
    taken: list[int] = []

    def source() -> Iterator[dict[str, Any]]:
        for number, cat in enumerate(cats(10 * BATCH)):
            taken.append(number)
            yield cat

    outcomes = client.submit_many(source())
    assert next(iter(outcomes)).index == 0
    assert len(taken) == BATCH


def test_memory_stays_flat(task_settings: TaskSettings, hand: Hand) -> None:
    """Between the 1,000th and the 5,000th outcome next to nothing is kept."""
    hand.serve()
    tracemalloc.start()
    try:
        with Darkroom(task_settings) as client:
            outcomes = client.submit_many(cats(5_000))
            assert sum(1 for _ in islice(outcomes, 1_000)) == 1_000
            before, _ = tracemalloc.get_traced_memory()
            assert sum(1 for _ in outcomes) == 4_000
            after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 200_000


def test_an_async_source(task_settings: TaskSettings, hand: Hand) -> None:
    hand.serve()

    async def source() -> AsyncIterator[dict[str, Any]]:
        for cat in cats(3):
            yield cat

    async def submit() -> list[list[int]]:
        async with AsyncDarkroom(task_settings) as client:
            return [outcome.job.seeds async for outcome in client.submit_many(source()) if outcome.job]

    assert asyncio.run(submit()) == [[0], [1], [2]]


def test_a_server_that_dies_in_the_middle(face: Faces) -> None:
    """Each item of the batch carries the error and an id, under which trying again makes no second job."""
    with LocalServer() as server:
        client = face(TaskSettings(redis_url=SecretStr(server.url), default_model="sdxl"))

        def source() -> Iterator[dict[str, Any]]:
            for number, cat in enumerate(cats(3 * BATCH)):
                if number == BATCH + 5:
                    server.stop()
                yield cat

        found, error = until_error(client.submit_many(source()))
    assert isinstance(error, QueueUnavailable)
    assert [outcome.index for outcome in found] == list(range(len(found)))
    assert all(outcome.job for outcome in found[:BATCH])
    failed = found[BATCH:]
    assert len(failed) > 5
    ids = {UUID(outcome.error.job_id) for outcome in failed if isinstance(outcome.error, QueueUnavailable)}
    assert len(ids) == len(failed)


def until_error(outcomes: Iterator[Outcome]) -> tuple[list[Outcome], Exception | None]:
    """What came, and what ended it."""
    found: list[Outcome] = []
    try:
        found.extend(outcomes)
    except QueueError as error:
        return found, error
    return found, None


def test_a_stuck_server_is_not_asked_again_for_each_request(face: Faces, stuck: TaskSettings) -> None:
    client = face(stuck)
    with within(6), pytest.raises(QueueUnavailable):
        list(client.submit_many(cats(BATCH)))
