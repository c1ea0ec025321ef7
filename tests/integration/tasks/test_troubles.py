"""A Redis that is away, stuck, full, restarted, or does not let us in: which error, and how soon."""

import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import (
    Darkroom,
    DarkroomError,
    QueueAuthFailed,
    QueueBroken,
    QueueError,
    QueueFull,
    QueueUnavailable,
    State,
    TaskSettings,
    Txt2Img,
)
from darkroom.tasks.redis_io import BlockingIO
from tests.integration.hand import Hand

from .conftest import Faces, within

CAT = Txt2Img(prompt="a cat", model="sdxl")
ID = str(uuid4())


def calls(client: Darkroom) -> list[Callable[[], object]]:
    """What a producer does all day."""
    return [
        lambda: client.submit(CAT, job_id=ID),
        lambda: client.get(ID),
        lambda: next(client.watch(ID)),
        lambda: client.wait(ID, 60),
        lambda: client.wait(ID),
        lambda: next(client.feed()),
        lambda: client.cancel(ID),
        lambda: client.jobs(),
        lambda: client.ping(),
    ]


def failure(call: Callable[[], object]) -> QueueError:
    with within(6), pytest.raises(QueueError) as caught:
        call()
    return caught.value


@pytest.fixture
def nobody() -> TaskSettings:
    """Settings of a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return TaskSettings(redis_url=SecretStr(f"redis://127.0.0.1:{port}/0"))


@pytest.fixture
def locked() -> Iterator[tuple[LocalServer, "redis.Redis[str]"]]:
    """A server with a password, and a client that is in already."""
    with LocalServer() as server, redis.Redis(port=server.port, decode_responses=True) as admin:
        admin.config_set("requirepass", "s3cret")
        yield server, admin


def login(server: LocalServer, user: str, prefix: str = "darkroom:") -> TaskSettings:
    url = server.url.replace("redis://", f"redis://{user}@")
    return TaskSettings(redis_url=SecretStr(url), redis_prefix=prefix)


def test_unreachable(face: Faces, nobody: TaskSettings) -> None:
    for call in calls(face(nobody)):
        error = failure(call)
        assert isinstance(error, QueueUnavailable)
        assert error.retryable
        assert "doctor" in error.hint


def test_stuck(face: Faces, stuck: TaskSettings) -> None:
    """All calls at once, each from a client of its own: they fail within a few seconds, and none hangs."""
    clients = [face(stuck) for _ in range(9)]
    with ThreadPoolExecutor() as pool:
        errors = [*pool.map(lambda n: failure(calls(clients[n])[n]), range(9))]
    assert {type(error) for error in errors} == {QueueUnavailable}


def test_stuck_while_it_is_watched(face: Faces, hand: Hand) -> None:
    """The connection is open and a blocking read under way when the server stops answering."""
    with LocalServer() as server:
        client = face(TaskSettings(redis_url=SecretStr(server.url)))
        handle = client.submit(CAT)
        watching = handle.watch()
        assert next(watching).type == "job.queued"
        assert server.process
        server.process.send_signal(signal.SIGSTOP)
        assert isinstance(failure(lambda: next(watching)), QueueUnavailable)
        server.process.send_signal(signal.SIGCONT)
        assert handle.get().state is State.QUEUED  # the client itself goes on


def test_a_failed_submit_may_be_repeated_under_its_id(face: Faces, nobody: TaskSettings) -> None:
    client = face(nobody)
    with pytest.raises(QueueUnavailable):
        client.submit(CAT)
    with LocalServer(port=nobody_port(nobody)) as server:
        assert server.process
        client.models()
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(QueueUnavailable) as caught:
            client.submit(CAT)
        server.process.send_signal(signal.SIGCONT)
        assert caught.value.job_id
        handle = client.submit(CAT, job_id=caught.value.job_id)
        assert handle.id == caught.value.job_id
        assert [job.id for job in client.jobs()] == [handle.id]


def nobody_port(settings: TaskSettings) -> int:
    return int(settings.redis_url.get_secret_value().rpartition(":")[2].partition("/")[0])


@pytest.mark.parametrize("user", [":wrong", "nobody:s3cret"])
def test_wrong_password(face: Faces, locked: tuple[LocalServer, Any], user: str) -> None:
    for call in calls(face(login(locked[0], user))):
        error = failure(call)
        assert isinstance(error, QueueAuthFailed)
        assert not error.retryable
        assert "s3cret" not in str(error)


def test_no_password(face: Faces, locked: tuple[LocalServer, Any]) -> None:
    assert isinstance(failure(face(TaskSettings(redis_url=SecretStr(locked[0].url))).ping), QueueAuthFailed)


def test_a_user_who_may_touch_our_keys_alone(face: Faces, locked: tuple[LocalServer, "redis.Redis[str]"]) -> None:
    server, admin = locked
    admin.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["darkroom:*"], categories=["+@all", "-@dangerous"])
    client = face(login(server, "app:pw"))
    io = BlockingIO(login(server, "app:pw"))
    handle = client.submit(Txt2Img(prompt="a cat", model="sdxl", idempotency_key="k"))
    Hand(io).run(handle.id)
    assert [event.type for event in handle.watch()][-1] == "job.succeeded"
    assert handle.wait(1).state is State.SUCCEEDED
    assert [job.id for job in client.jobs(state="succeeded")] == [handle.id]
    assert {key.partition(":")[0] for key in admin.scan_iter()} == {"darkroom"}
    io.close()


@pytest.mark.parametrize(
    "rights",
    [
        {"keys": ["other:*"], "categories": ["+@all"]},
        {"keys": ["darkroom:*"], "categories": ["+@all", "-@scripting"]},
        {"keys": ["darkroom:*"], "commands": ["+evalsha", "+client", "+xread", "+hget", "+exists"]},
    ],
    ids=["other keys", "no scripts", "no loading of scripts"],
)
def test_a_user_who_lacks_a_right(face: Faces, locked: tuple[LocalServer, Any], rights: dict[str, list[str]]) -> None:
    server, admin = locked
    admin.acl_setuser("app", enabled=True, passwords=["+pw"], **rights)
    assert isinstance(failure(lambda: face(login(server, "app:pw")).submit(CAT)), QueueAuthFailed)


def test_a_full_server_takes_a_job_whole_or_not_at_all(face: Faces) -> None:
    """And what it holds already is worked off."""
    with LocalServer("--maxmemory-policy", "noeviction") as server, redis.Redis(port=server.port) as admin:
        settings = TaskSettings(redis_url=SecretStr(server.url))
        client, io = face(settings), BlockingIO(settings)
        running, waiting = client.submit(CAT), client.submit(CAT)
        held = Hand(io).claim(running.id)
        before = {key: admin.dump(key) for key in admin.scan_iter()}
        admin.config_set("maxmemory", "1mb")
        error = failure(lambda: client.submit(CAT))
        assert isinstance(error, QueueFull)
        assert error.retryable
        assert {key: admin.dump(key) for key in admin.scan_iter()} == before
        Hand(io).picture(held)
        assert Hand(io).succeed(held)
        assert Hand(io).succeed(Hand(io).claim(waiting.id))
        assert [handle.get().state for handle in (running, waiting)] == [State.SUCCEEDED] * 2
        admin.config_set("maxmemory", "0")
        assert client.submit(CAT).get().state is State.QUEUED
        io.close()


def test_scripts_that_the_server_forgot(client: Darkroom, hand: Hand, raw: "redis.Redis[str]") -> None:
    for _ in range(2):
        raw.script_flush()
        handle = client.submit(CAT)
        assert len(list(client.submit_many([CAT, CAT]))) == 2
        raw.script_flush()
        hand.run(handle.id)
        raw.script_flush()
        assert handle.cancel() == "already_finished"
    assert len(client.jobs(state="queued")) == 4


def test_connections_that_were_cut(client: Darkroom, hand: Hand, raw: "redis.Redis[str]") -> None:
    """A connection that died in the pool is replaced: the caller does not hear of it."""
    handle = client.submit(CAT)
    held = hand.claim(handle.id)
    raw.client_kill_filter(_type="normal", skipme=True)
    assert hand.succeed(held)
    assert handle.get().state is State.SUCCEEDED
    assert next(client.submit_many([CAT])).job


def test_a_key_of_ours_that_somebody_else_wrote(
    client: Darkroom, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    raw.set(f"{task_settings.redis_prefix}job:{ID}", "mine")
    raw.hset(f"{task_settings.redis_prefix}job:other", mapping={"state": "running"})
    for call in (lambda: client.get(ID), lambda: client.submit(CAT, job_id=ID), lambda: client.get("other")):
        assert isinstance(failure(call), QueueBroken)
    assert client.submit(CAT).get().state is State.QUEUED


def test_every_error_is_one_of_ours(face: Faces, nobody: TaskSettings) -> None:
    client = face(nobody)
    for call in (lambda: list(client.submit_many([CAT])), lambda: client.delete(ID), lambda: client.position(ID)):
        with pytest.raises(DarkroomError):
            call()
