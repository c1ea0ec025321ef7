"""How messages are taken, with the worker's own app and pool, and a task that does as it is told."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import pytest
import redis
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, TaskSettings
from darkroom.tasks.message import knock

from .apps import Start
from .processes import Process


@pytest.fixture
def client(task_settings: TaskSettings) -> Iterator[Darkroom]:
    with Darkroom(task_settings) as client:
        yield client


def submit(client: Darkroom, lane: str = "interactive", model: str = "sdxl") -> str:
    return client.submit({"prompt": "a cat", "model": model, "lane": lane}).id


def begun(app: Process) -> list[str]:
    return [line["job"] for line in app.of("began")]


def test_messages_come_in_their_order(start: Start, client: Darkroom) -> None:
    app, ids = start(), [submit(client) for _ in range(5)]
    for number, job_id in enumerate(ids, 1):
        app.wait_for("began", count=number)
        assert begun(app) == ids[:number]  # the next one waits in Redis until this one has ended
        app.tell(".")
        app.wait_for("ended", job=job_id)


def test_interactive_goes_before_bulk_on_all_models(start: Start, client: Darkroom) -> None:
    app, first = start(), submit(client)
    app.wait_for("began", job=first)
    bulk = [submit(client, "bulk"), submit(client, "bulk", "sd-1.5")]
    interactive = [submit(client), submit(client, model="sd-1.5"), submit(client)]
    for number in range(6):
        app.tell(".")
        app.wait_for("ended", count=number + 1)
    rest = begun(app)[1:]
    assert set(rest[:3]) == set(interactive)
    assert set(rest[3:]) == set(bulk)


def test_as_many_at_once_as_it_may(start: Start, client: Darkroom) -> None:
    app, ids = start(concurrency=2), [submit(client) for _ in range(4)]
    app.wait_for("began", count=2)
    assert sorted(begun(app)) == sorted(ids[:2])  # each on its own thread: either may say so first
    app.tell(".")
    app.wait_for("began", count=3)
    assert len(app.of("ended")) == 1


def test_whatever_a_task_raises_its_slot_is_given_back(start: Start, client: Darkroom) -> None:
    app = start(concurrency=2)
    for number, order in enumerate("xmie" * 2):
        submit(client)
        app.wait_for("began", count=number + 1)
        app.tell(order)
    last = [submit(client), submit(client)]
    app.wait_for("began", job=last[1])  # both slots are free
    app.tell("..")
    app.wait_for("ended", count=2)
    assert app.terminate() == 0


def test_sigterm_lets_the_running_task_end(start: Start, client: Darkroom) -> None:
    app, first, second = start(), submit(client), submit(client)
    app.wait_for("began", job=first)
    app.send(signal.SIGTERM)
    app.tell(".")
    assert app.end() == 0
    assert [line["action"] for line in app.lines if line["action"] in ("ended", "stopped")] == ["ended", "stopped"]
    assert begun(app) == [first]
    assert client.position(second) == (1, None)  # nobody took it; the first one was never claimed here


def test_a_second_signal_ends_at_once(start: Start, client: Darkroom) -> None:
    app = start()
    submit(client)
    app.wait_for("began")
    code = None
    while code is None:
        app.send(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            code = app.inner.wait(0.05)
    assert code == 128 + signal.SIGINT
    assert app.of("ended") == []


def test_garbage_in_the_queue_harms_nobody(
    start: Start, client: Darkroom, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    stranger = json.loads(knock(str(uuid4()), "queue:sdxl:interactive"))
    stranger["headers"]["task"] = "os.system"
    garbage = [
        b"",
        b"\xff\x00garbage",
        b"[]",
        b"{}",
        b'{"body": "not base64!", "headers": {}, "properties": {"body_encoding": "base64", "delivery_tag": "x"}}',
        b'{"body": "W10=", "content-type": "application/x-python-serialize", "properties": {}, "headers": {}}',
        b"x" * 1_000_000,
        json.dumps(stranger).encode(),
    ]
    app = start()
    raw.lpush(f"{task_settings.redis_prefix}queue:sdxl:interactive", *garbage)
    job_id = submit(client)
    app.wait_for("began")
    app.tell(".")
    assert app.terminate() == 0
    assert begun(app) == [job_id]
    assert raw.llen(f"{task_settings.redis_prefix}garbage") == len(garbage)


def test_connections_that_are_cut_double_and_lose_nothing(
    start: Start, client: Darkroom, raw: "redis.Redis[str]"
) -> None:
    app, ids = start(), [submit(client) for _ in range(4)]
    for number, job_id in enumerate(ids):
        app.wait_for("began", job=job_id)
        raw.client_kill_filter(_type="normal", skipme=True)
        app.tell(".")
        app.wait_for("ended", count=number + 1)
    assert begun(app) == ids


def test_a_full_server_costs_no_process(start: Start) -> None:
    with LocalServer("--maxmemory-policy", "noeviction") as server, redis.Redis(port=server.port) as admin:
        settings = TaskSettings(redis_url=SecretStr(server.url))
        app = start(settings=settings)
        with Darkroom(settings) as client:
            ids = [submit(client) for _ in range(3)]
            app.wait_for("began", job=ids[0])
            admin.config_set("maxmemory", "1mb")
            for job_id in ids:
                app.wait_for("began", job=job_id)
                app.tell(".")
            admin.config_set("maxmemory", "0")
            app.wait_for("ended", count=3)
        assert app.terminate() == 0


def test_a_server_that_comes_back_is_found_again(start: Start) -> None:
    with LocalServer() as server:
        settings = TaskSettings(redis_url=SecretStr(server.url))
        app = start(settings=settings)
        server.stop()
        with LocalServer(port=server.port) as again, Darkroom(TaskSettings(redis_url=SecretStr(again.url))) as client:
            job_id = submit(client)
            app.wait_for("began", job=job_id)
            app.tell(".")
            app.wait_for("ended")
            assert app.terminate() == 0


def test_it_stops_while_the_server_is_away(start: Start) -> None:
    with LocalServer() as server:
        app = start(settings=TaskSettings(redis_url=SecretStr(server.url)))
        server.stop()
        app.wait_for("library.log")
        assert app.terminate() == 0
