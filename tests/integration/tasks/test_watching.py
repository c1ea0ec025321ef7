"""Many who watch through one client: one blocking read serves them all, and nobody is held up by another."""

import asyncio
import contextlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest
import redis
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import (
    AsyncDarkroom,
    ClientClosed,
    Darkroom,
    JobNotFound,
    QueueBroken,
    QueueUnavailable,
    State,
    TaskSettings,
    Txt2Img,
    WaitTimeout,
    claims,
    streams,
)
from darkroom.tasks.following import AsyncSharedReader, SharedReader
from darkroom.tasks.redis_io import AsyncIO, BlockingIO, Operation
from darkroom.tasks.streams import Batch
from tests.integration.hand import Hand

from .conftest import Faces, within

CAT = Txt2Img(prompt="a cat", model="sdxl")
LIFE = ["job.queued", "job.started", "job.progress", "job.image", "job.succeeded"]
Crowd = Callable[[TaskSettings, list[str], Callable[[], None]], list[list[str]]]


def in_tasks(settings: TaskSettings, ids: list[str], once_begun: Callable[[], None]) -> list[list[str]]:
    """The types of event that each of many watchers sees; `once_begun` is called when all have seen the first."""

    async def run() -> list[list[str]]:
        async with AsyncDarkroom(settings) as client:
            begun = asyncio.Semaphore(0)

            async def follow(job_id: str) -> list[str]:
                seen: list[str] = []
                async for event in client.watch(job_id):
                    seen.append(event.type)
                    begun.release()
                return seen

            tasks = [asyncio.create_task(follow(job_id)) for job_id in ids]
            for _ in ids:
                await begun.acquire()
            await asyncio.to_thread(once_begun)
            return await asyncio.gather(*tasks)

    return asyncio.run(run())


def in_threads(settings: TaskSettings, ids: list[str], once_begun: Callable[[], None]) -> list[list[str]]:
    """The same in threads."""
    begun = threading.Semaphore(0)
    with Darkroom(settings) as client, ThreadPoolExecutor(len(ids)) as pool:

        def follow(job_id: str) -> list[str]:
            seen = []
            for event in client.watch(job_id):
                seen.append(event.type)
                begun.release()
            return seen

        calls = [pool.submit(follow, job_id) for job_id in ids]
        for _ in ids:
            begun.acquire()
        once_begun()
        return [call.result(60) for call in calls]


@pytest.fixture(params=[in_tasks, in_threads])
def crowd(request: pytest.FixtureRequest) -> Crowd:
    found: Crowd = request.param
    return found


@pytest.fixture
def patient(task_settings: TaskSettings, monkeypatch: pytest.MonkeyPatch) -> TaskSettings:
    """Settings with which a blocking read that nobody ends takes a minute."""
    for module in ("connections", "redis_io", "watchlist"):
        monkeypatch.setattr(f"darkroom.tasks.{module}.BLOCK_SECONDS", 60.0)
    return task_settings


def reads(raw: "redis.Redis[str]") -> int:
    """Blocking reads that are under way at the server."""
    return sum(client["cmd"] == "xread" for client in raw.client_list())


def test_hundreds_watch_on_four_connections(crowd: Crowd) -> None:
    """200 watch one job and 100 others: every one sees the whole life of their job."""
    with LocalServer() as server, redis.Redis(port=server.port, decode_responses=True) as raw:
        settings = TaskSettings(redis_url=SecretStr(server.url))
        io, before = BlockingIO(settings), 0
        hand = Hand(io)
        hand.serve()
        with Darkroom(settings) as client:
            ids = [client.submit(CAT).id for _ in range(101)]
        connections = []

        def work() -> None:
            connections.append(len(raw.client_list()) - before)
            for job_id in ids:
                hand.run(job_id)
            connections.append(len(raw.client_list()) - before)

        before = len(raw.client_list())
        seen = crowd(settings, ids[:1] * 200 + ids[1:], work)
        assert seen == [LIFE] * 300
        assert max(connections) <= 4
        io.close()


def test_all_share_one_blocking_read(client: Darkroom, hand: Hand, raw: "redis.Redis[str]") -> None:
    before = reads(raw)
    watching = [client.watch(client.submit(CAT).id) for _ in range(3)] + [client.feed()]
    first = client.submit(CAT)
    followers = [*watching[:3], client.watch(first.id)]
    for one in followers:
        assert next(one).type == "job.queued"
    hand.run(first.id)
    assert [event.type for event in followers[-1]] == LIFE[1:]
    assert reads(raw) <= before + 1


def test_who_comes_later_is_heard_at_once(patient: TaskSettings, face: Faces, hand: Hand) -> None:
    """The read that is under way lacks their stream: it is ended for them."""
    hand.serve()
    client = face(patient)
    idle, busy = client.submit(CAT), client.submit(CAT)
    with within(30):
        with pytest.raises(WaitTimeout):
            idle.wait(0.3)  # leaves a read behind that would take a minute
        watching = busy.watch()
        assert next(watching).type == "job.queued"
        hand.run(busy.id)
        assert [event.type for event in watching] == LIFE[1:]


def test_a_slow_reader_holds_up_nobody_and_loses_nothing(client: Darkroom, hand: Hand) -> None:
    handle = client.submit(CAT)
    held = hand.claim(handle.id)
    slow, quick = handle.watch(), handle.watch()
    assert [event.type for event in islice(slow, 2)] == [event.type for event in islice(quick, 2)] == LIFE[:2]
    said = {"image": 0, "of": 600, "preview": False}
    hand.io.run(claims.progress(held, {**said, "step": 0}, None))
    steps = [next(slow).data["step"], next(quick).data["step"]]
    for step in range(1, 600):
        hand.io.run(claims.progress(held, {**said, "step": step}, None))
        steps.append(next(quick).data["step"])
    hand.succeed(held)
    assert steps[1:] == list(range(600))
    assert [event.type for event in quick] == ["job.succeeded"]
    assert [event.data["step"] for event in slow if event.type == "job.progress"] == list(range(1, 600))


def test_a_job_that_is_gone_ends_its_watchers_alone(
    client: Darkroom, hand: Hand, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    gone, other = client.submit(CAT), client.submit(CAT)
    watching, watching_other = gone.watch(), other.watch()
    assert next(watching).type == next(watching_other).type == "job.queued"
    prefix = task_settings.redis_prefix
    raw.delete(*(f"{prefix}{kind}:{gone.id}" for kind in ("job", "events")))
    with within(10), pytest.raises(JobNotFound):
        next(watching)
    hand.run(other.id)
    assert [event.type for event in watching_other] == LIFE[1:]


def test_a_stream_that_somebody_else_wrote_ends_its_watchers_alone(
    client: Darkroom, hand: Hand, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    spoilt, other = client.submit(CAT), client.submit(CAT)
    watching, watching_other = spoilt.watch(), other.watch()
    assert next(watching).type == next(watching_other).type == "job.queued"
    held = hand.claim(other.id)
    assert next(watching_other).type == "job.started"
    raw.set(f"{task_settings.redis_prefix}events:{spoilt.id}", "mine")
    with within(10), pytest.raises(QueueBroken):
        next(watching)
    hand.succeed(held)
    assert [event.type for event in watching_other] == ["job.succeeded"]


def test_a_read_whose_connection_is_cut_goes_on(client: Darkroom, hand: Hand, raw: "redis.Redis[str]") -> None:
    handle = client.submit(CAT)
    watching = handle.watch()
    assert next(watching).type == "job.queued"
    held = hand.claim(handle.id)
    assert next(watching).type == "job.started"
    raw.client_kill_filter(_type="normal", skipme=True)
    hand.succeed(held)
    assert [event.type for event in watching] == ["job.succeeded"]


def test_a_server_that_is_gone_is_told_to_all(face: Faces) -> None:
    with LocalServer() as server:
        client = face(TaskSettings(redis_url=SecretStr(server.url)))
        Hand(BlockingIO(TaskSettings(redis_url=SecretStr(server.url)))).serve()
        followers = [client.watch(client.submit(CAT).id) for _ in range(2)]
        for one in followers:
            next(one)
        server.stop()
        for one in followers:
            with within(6), pytest.raises(QueueUnavailable):
                next(one)


def test_a_client_that_is_closed_ends_what_watches() -> None:
    with LocalServer() as server:
        settings = TaskSettings(redis_url=SecretStr(server.url))
        Hand(BlockingIO(settings)).serve()
        with ThreadPoolExecutor() as pool:
            client = Darkroom(settings)
            handle = client.submit(CAT)
            watching = handle.watch()
            next(watching)
            following, waiting = pool.submit(next, watching), pool.submit(handle.wait)
            with redis.Redis(port=server.port, decode_responses=True) as raw:
                until(lambda: reads(raw) == 1)
            client.close()
            for call in (following, waiting):
                with within(6), pytest.raises(ClientClosed):
                    call.result(10)
            with redis.Redis(port=server.port, decode_responses=True) as raw:
                until(lambda: reads(raw) == 0)

        async def run() -> None:
            client = AsyncDarkroom(settings)
            handle = await client.submit(CAT)
            waiting = asyncio.create_task(handle.wait())
            with redis.Redis(port=server.port, decode_responses=True) as raw:
                await asyncio.to_thread(until, lambda: reads(raw) == 1)
            await client.close()
            with pytest.raises(ClientClosed):
                await waiting

        asyncio.run(run())


def test_a_client_that_is_closed_before_its_follower_is_in_the_list_ends_them_too(task_settings: TaskSettings) -> None:
    """Between a follower's own first read and the shared one; asked again they follow on."""
    with Darkroom(task_settings) as client:
        job_id = client.submit(CAT).id

    def first(closed: Callable[[], object]) -> Operation[Batch]:
        batch = yield from streams.latest(job_id)
        closed()
        return batch

    io = BlockingIO(task_settings)
    reader = SharedReader(io)
    with within(6), reader.reading(streams.of_job(job_id)) as reading:
        reading.begin(first(reader.close))
        with pytest.raises(ClientClosed):
            reading.next()
        assert not reading.next(0.1).events
    reader.close()
    io.close()

    async def run() -> None:
        io = AsyncIO(task_settings)
        reader = AsyncSharedReader(io)

        def close() -> None:  # the list is told at once, before the call first gives way
            with contextlib.suppress(StopIteration):
                reader.close().send(None)

        with reader.reading(streams.of_job(job_id)) as reading:
            await reading.begin(first(close))
            with pytest.raises(ClientClosed):
                await reading.next()
            assert not (await reading.next(0.1)).events
        await reader.close()
        await io.close()

    with within(6):
        asyncio.run(run())


def test_nobody_is_read_for_when_all_have_gone(client: Darkroom, raw: "redis.Redis[str]") -> None:
    before = reads(raw)
    handle = client.submit(CAT)
    followers = [handle.watch() for _ in range(3)]
    for one in followers:
        next(one)
        if hasattr(one, "close"):
            one.close()
    del followers, one
    until(lambda: reads(raw) <= before)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_was_watched_before_a_fork_goes_on_in_the_child(task_settings: TaskSettings, hand: Hand) -> None:
    hand.serve()
    with Darkroom(task_settings) as client:
        handle = client.submit(CAT)
        watching = handle.watch()
        held = hand.claim(handle.id)
        assert [next(watching).type for _ in range(2)] == LIFE[:2]
        hand.io.run(claims.progress(held, {"image": 0, "step": 1, "of": 4, "preview": False}, None))
        assert next(watching).type == "job.progress"  # the thread runs
        child = multiprocessing.get_context("fork").Process(target=_see_it_end, args=(watching,))
        child.start()
        hand.succeed(held)
        child.join(20)
        assert child.exitcode == 0
        assert next(watching).type == "job.succeeded"


def _see_it_end(watching: Iterator[object]) -> None:
    assert [event.type for event in watching] == ["job.succeeded"]  # type: ignore[attr-defined]


def test_a_loop_that_stood_still_goes_on(task_settings: TaskSettings, hand: Hand) -> None:
    """Longer than any time-out: an answer that came meanwhile counts, in calls and in what is watched."""
    hand.serve()

    async def run() -> None:
        async with AsyncDarkroom(task_settings.model_copy(update={"redis_timeout": 0.3})) as client:
            handle = await client.submit(CAT)
            waiting = asyncio.create_task(handle.wait())
            calls = [asyncio.create_task(client.get(handle.id)) for _ in range(40)]
            await asyncio.sleep(0.1)
            calls += [asyncio.create_task(client.get(handle.id)) for _ in range(40)]
            await asyncio.sleep(0)
            time.sleep(3)
            assert {job.state for job in await asyncio.gather(*calls)} == {State.QUEUED}
            hand.run(handle.id)
            assert (await waiting).state is State.SUCCEEDED

    asyncio.run(run())
