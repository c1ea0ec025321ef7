"""Commands about what went wrong: dead letters, leftovers, and a doctor who explains a sick system."""

from collections.abc import Iterator
from typing import Any

import pytest

from darkroom.storage import StorageSettings, open_store
from darkroom.tasks import Darkroom, JobError, TaskSettings, claims
from darkroom.tasks.redis_io import BlockingIO, Key, Operation, command
from darkroom.tasks.redis_io import Call as RedisCall
from tests.acceptance.conftest import Call, Installation
from tests.integration.hand import Hand

LOST = "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89"


@pytest.fixture
def settings(installation: Installation, call: Call) -> TaskSettings:
    return TaskSettings.model_validate({"redis_url": installation.redis_url})


@pytest.fixture
def hand(settings: TaskSettings) -> Iterator[Hand]:
    io = BlockingIO(settings)
    yield Hand(io)
    io.close()


@pytest.fixture
def given_up(settings: TaskSettings, hand: Hand) -> str:
    """A job of a model that nobody serves, and that a worker failed at."""
    with Darkroom(settings) as client:
        job_id = client.submit({"prompt": "a cat", "model": "sd-1.5", "seed": 5}).id
    error = JobError(code="generation_failed", message="the pipeline raised")
    assert hand.io.run(claims.fail(hand.claim(job_id), error, settings))
    return job_id


def test_dead_letters_are_listed_shown_retried_and_dropped(call: Call, given_up: str) -> None:
    listed = call("dead", "list", "--json").json
    assert [(job["id"], job["error"]["code"]) for job in listed["jobs"]] == [(given_up, "generation_failed")]
    assert given_up in call("dead", "list").out
    shown = call("dead", "show", given_up, "--json").json
    assert [(a["claim"], a["worker"], a["error"]["message"]) for a in shown["attempts"]] == [
        (1, "w", "the pipeline raised")
    ]
    assert "generation_failed" in call("dead", "show", given_up).out
    (again,) = call("dead", "retry", given_up, "--json").json["results"]
    assert call("status", again["new_id"], "--json").json["seeds"] == [5]
    assert call("dead", "list", "--json").json["jobs"] == []
    dropped = call("dead", "drop", given_up)
    assert (dropped.code, "not among the dead letters" in dropped.out) == (7, True)
    waiting = call("dead", "retry", again["new_id"], "--json")
    assert (waiting.code, waiting.json["results"][0]["error"]["code"]) == (7, "job_not_finished")
    assert call("cancel", again["new_id"]).code == 0


@pytest.fixture
def no_janitor(hand: Hand) -> Iterator[None]:
    """Somebody who does nothing has the duty."""
    hand.io.run(_one(command("SET", Key("janitor"), "nobody", "EX", 600)))
    yield
    hand.io.run(_one(command("DEL", Key("janitor"))))


def _one(asked: RedisCall) -> Operation[Any]:
    return (yield asked)


@pytest.mark.usefixtures("no_janitor")
def test_the_doctor_explains_jobs_in_trouble(call: Call, given_up: str, hand: Hand, settings: TaskSettings) -> None:
    with Darkroom(settings) as client:
        waiting, running = (client.submit({"prompt": "a cat", "model": "playground-v2.5"}).id for _ in range(2))
        hand.claim(running, lease=-60)
        told = [check["message"] for check in call("doctor", "--json").json["checks"] if check["part"] == "jobs"]
        waits = "1 wait in playground-v2.5:interactive, and no worker"
        for words in ("1 were given up", waits, "1 have lost their worker"):
            assert any(words in message for message in told), told
        for job_id in (waiting, running):
            assert client.cancel(job_id) == "canceled"
        client.drop(given_up)


def test_a_deadline_from_now(call: Call) -> None:
    job_id = call("submit", "a cat", "--model", "sd-1.5", "--finish-by", "+3600", "--json").json["id"]
    request = call("status", job_id, "--json").json["request"]
    assert request["finish_by"].endswith(("Z", "+00:00"))
    assert call("cancel", job_id).code == 0
    assert call("submit", "a cat", "--model", "sd-1.5", "--start-by", "tomorrow", "--json").error["faults"]


def test_what_no_record_names_is_swept(call: Call, given_up: str, installation: Installation) -> None:
    store = open_store(
        StorageSettings.model_validate({"storage_url": installation.environment["DARKROOM_STORAGE_URL"]})
    )
    leftover, orphan = f"{given_up}/0-{'a' * 16}.png", f"{LOST}/0-{'b' * 16}.png"
    upload = "inputs/default/cc.png"
    for key in (leftover, orphan, upload):
        store.put(key, b"x", content_type="image/png")
    assert call("gc", "--dry-run", "--json").json["objects"] == [leftover]
    assert call("gc", "--json").json["objects"] == [leftover]
    assert call("gc", "--expired", "--json").json["objects"] == []  # younger than a record may be
    assert [store.exists(key) for key in (leftover, orphan, upload)] == [False, True, True]
    assert "objects" in call("gc").out
    call("dead", "drop", given_up)
