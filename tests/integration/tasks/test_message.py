"""The knock is a message as Celery itself would send it."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Exchange, Queue

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, TaskSettings, Txt2Img
from darkroom.tasks.claims import knock_again
from darkroom.tasks.message import LANES, NO_JOB, TASK_NAME, bare_knock, queue_name
from darkroom.tasks.places import Place
from tests.integration.hand import Hand

LIST = "queue:sdxl:interactive"


@pytest.fixture
def stock(redis_server: LocalServer, task_settings: TaskSettings) -> Iterator[Celery]:
    """A Celery app that knows of Darkroom nothing but names."""
    app = Celery("stock", broker=redis_server.url, set_as_current=False)
    queue = Queue(LIST, Exchange("darkroom", type="direct"), routing_key=LIST)
    app.conf.update(
        task_queues=[queue],
        task_ignore_result=True,
        broker_transport_options={"global_keyprefix": task_settings.redis_prefix, "priority_steps": [0]},
    )
    yield app
    app.close()


@pytest.fixture
def job_id(task_settings: TaskSettings) -> str:
    with Darkroom(task_settings) as client:
        return client.submit(Txt2Img(prompt="a cat", model="sdxl")).id


def messages(raw: "redis.Redis[str]", settings: TaskSettings) -> list[dict[str, Any]]:
    return [json.loads(text) for text in raw.lrange(f"{settings.redis_prefix}{LIST}", 0, -1)]


def test_it_says_what_celery_says(
    stock: Celery, job_id: str, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    stock.send_task(TASK_NAME, (job_id,), queue=LIST, task_id=job_id, ignore_result=True)
    theirs, ours = messages(raw, task_settings)
    assert decoded(ours) == decoded(theirs)
    assert ours.keys() == theirs.keys()
    assert (ours["content-type"], ours["content-encoding"]) == (theirs["content-type"], theirs["content-encoding"])
    for part in ("headers", "properties"):
        shared = {name: value for name, value in ours[part].items() if name not in ("delivery_tag", "delivery_info")}
        assert shared == {name: theirs[part][name] for name in shared}
    assert ours["properties"]["delivery_info"]["routing_key"] == LIST
    assert ours["properties"]["delivery_tag"] != theirs["properties"]["delivery_tag"]


def test_a_knock_of_a_script_is_such_a_message_that_names_no_job(
    job_id: str, raw: "redis.Redis[str]", task_settings: TaskSettings, hand: Hand
) -> None:
    assert bare_knock() == bare_knock()  # it is part of the scripts, which have one digest for all processes
    (submitted,) = messages(raw, task_settings)
    for _ in range(3):
        hand.io.run(knock_again([Place("sdxl", "interactive")]))
    _, *knocks = messages(raw, task_settings)
    whole = json.loads(json.dumps(submitted).replace(job_id, NO_JOB))
    for each in knocks:
        assert decoded(each) == [[NO_JOB], *decoded(submitted)[1:]]
        wanted = {**whole["properties"], "delivery_tag": each["properties"]["delivery_tag"]}
        assert each == {**whole, "body": each["body"], "properties": wanted}
    tags = [message["properties"]["delivery_tag"] for message in messages(raw, task_settings)]
    assert len({*tags}) == len(tags) == 4


def decoded(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))


def test_a_stock_app_reads_and_acknowledges_it(
    stock: Celery, job_id: str, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    with stock.connection() as connection, connection.SimpleQueue(stock.conf.task_queues[0]) as waiting:
        message = waiting.get(timeout=5)
        assert message.headers["task"] == TASK_NAME
        assert message.headers["id"] == job_id
        assert message.decode()[0] == [job_id]
        message.ack()
    assert messages(raw, task_settings) == []
    assert raw.hlen(f"{task_settings.redis_prefix}unacked") == 0


def test_an_unacknowledged_one_goes_back_into_its_queue(
    stock: Celery, job_id: str, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    with stock.connection() as connection, connection.SimpleQueue(stock.conf.task_queues[0]) as waiting:
        waiting.get(timeout=5)
        assert messages(raw, task_settings) == []
    (back,) = messages(raw, task_settings)
    assert back["headers"]["id"] == job_id


def test_each_lane_has_a_queue() -> None:
    lanes = [f"queue:sdxl:{lane}" for lane in ("interactive", "bulk", "training")]
    assert [queue_name("sdxl", lane) for lane in LANES] == lanes
