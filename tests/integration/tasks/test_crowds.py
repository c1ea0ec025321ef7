"""Many calls at once on one client: they share a few connections."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import redis
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import AsyncDarkroom, Darkroom, Event, QueueBroken, QueueUnavailable, TaskSettings, Txt2Img
from darkroom.tasks.redis_io import BlockingIO
from tests.integration.hand import Hand

from .conftest import within

T = TypeVar("T")
CAT = Txt2Img(prompt="a cat", model="sdxl")
Crowd = Callable[[TaskSettings], list[BaseException | str]]


def gathered(settings: TaskSettings) -> list[BaseException | str]:
    """The ids of 300 jobs that are submitted at once, or what went wrong."""

    async def run() -> list[BaseException | str]:
        async with AsyncDarkroom(settings) as client:
            handles = await asyncio.gather(*(client.submit(CAT) for _ in range(300)), return_exceptions=True)
            return [found if isinstance(found, BaseException) else found.id for found in handles]

    return asyncio.run(run())


def threaded(settings: TaskSettings) -> list[BaseException | str]:
    """The same from 300 threads."""
    with Darkroom(settings) as client, ThreadPoolExecutor(300) as pool:
        calls = [pool.submit(client.submit, CAT) for _ in range(300)]
        return [call.exception() or call.result().id for call in calls]


@pytest.fixture(params=[gathered, threaded])
def crowd(request: pytest.FixtureRequest) -> Crowd:
    """Submits many jobs at once."""
    found: Crowd = request.param
    return found


def shared(settings: TaskSettings, connections: int) -> TaskSettings:
    return settings.model_copy(update={"redis_connections": connections})


def test_more_calls_than_connections(crowd: Crowd, task_settings: TaskSettings, hand: Hand) -> None:
    hand.serve()
    ids = crowd(shared(task_settings, 2))
    assert [found for found in ids if isinstance(found, BaseException)] == []
    assert len(set(ids)) == 300


def test_a_crowd_takes_no_more_connections_than_it_may() -> None:
    with LocalServer() as server, redis.Redis(port=server.port) as admin:
        settings = TaskSettings(redis_url=SecretStr(server.url), redis_connections=3)
        Hand(BlockingIO(settings)).serve()
        before = int(admin.info("stats")["total_connections_received"])
        assert all(isinstance(found, str) for found in threaded(settings))
        assert int(admin.info("stats")["total_connections_received"]) - before <= 3


def test_a_crowd_before_a_server_that_is_stuck(crowd: Crowd, stuck: TaskSettings) -> None:
    """Those that wait in line need not find out one after another."""
    with within(15):  # 150 rounds of 0.3 s would take 45
        found = crowd(stuck.model_copy(update={"redis_connections": 2, "redis_timeout": 0.3}))
    assert {type(error) for error in found} == {QueueUnavailable}


def test_a_client_of_another_event_loop_says_so(task_settings: TaskSettings, hand: Hand) -> None:
    """As with a client of a module, and `asyncio.run` for each call."""
    hand.serve()
    client = AsyncDarkroom(task_settings)

    async def begin() -> tuple[str, AsyncIterator[Event]]:
        handle = await client.submit(CAT)
        events = handle.watch()
        await anext(events)
        return handle.id, events

    with asyncio.Runner() as own, asyncio.Runner() as other:
        job_id, events = own.run(begin())
        for call in (client.get(job_id), client.wait(job_id), client.close(), anext(events)):
            with pytest.raises(QueueBroken, match="belongs to another event loop"):
                other.run(awaited(call))
        assert own.run(client.get(job_id)).id == job_id
        own.run(client.close())


async def awaited(call: Awaitable[T]) -> T:
    return await call


def test_a_client_that_was_forked_while_its_connections_were_in_use(task_settings: TaskSettings, hand: Hand) -> None:
    hand.serve()
    with Darkroom(shared(task_settings, 1)) as client:
        job_id = client.submit(CAT).id
        with client._io._line():
            child = multiprocessing.get_context("fork").Process(target=client.get, args=(job_id,))
            child.start()
            child.join(20)
        assert child.exitcode == 0
