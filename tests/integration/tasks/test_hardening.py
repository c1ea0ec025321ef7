"""What an adversary, a newer version or a clumsy caller can put between client and record."""

import dataclasses
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import (
    Darkroom,
    InvalidRequest,
    JobNotFound,
    QueueBroken,
    QueueUnavailable,
    State,
    TaskSettings,
    Txt2Img,
    claims,
)
from darkroom.tasks.redis_io import Key, Operation, command
from tests.integration.hand import TTL, Hand

REQUEST = Txt2Img(model="sdxl", prompt="a lighthouse")


def ask(*words: object) -> Operation[bytes | int]:
    return (yield command(*words))


def test_a_job_whose_request_cannot_be_read_fails_once_and_is_not_claimed_for_ever(
    client: Darkroom, hand: Hand
) -> None:
    job_id = client.submit(REQUEST).id
    whole = hand.io.run(ask("HGET", Key(f"job:{job_id}"), "request"))
    hand.io.run(ask("HSET", Key(f"job:{job_id}"), "request", '{"kind": "animate", "prompt": "of a newer version"}'))
    assert hand.refused(job_id) == "unreadable"
    assert hand.refused(job_id) == "failed"
    hand.io.run(ask("HSET", Key(f"job:{job_id}"), "request", whole))
    error = client.get(job_id).error
    assert error and error.code == "request_unreadable" and "newer" not in error.message and error.hint


def test_waiting_no_time_for_an_ended_job_of_many_events_returns_it(client: Darkroom, hand: Hand) -> None:
    handle = client.submit(REQUEST)
    held = hand.claim(handle.id)
    for step in range(300):  # more than a page
        hand.io.run(claims.progress(held, {"image": 0, "step": step, "of": 300, "preview": False}, None))
    hand.succeed(held)
    assert client.wait(handle.id, timeout=0).state is State.SUCCEEDED


def test_ids_that_are_no_text_are_refused_with_an_error_of_ours(client: Darkroom) -> None:
    with pytest.raises(QueueBroken, match="cannot be sent"):
        client.get("\ud800")
    nobody: Any = object()
    with pytest.raises(QueueBroken, match="cannot be sent"):
        client.jobs(tenant=nobody)


def test_an_id_that_is_a_uuid_is_as_good_as_its_text(client: Darkroom) -> None:
    job_id: Any = uuid4()
    assert client.submit(REQUEST, job_id=job_id).id == str(job_id)
    assert client.get(job_id).id == str(job_id)
    assert client.position(job_id) == (0, None)
    assert client.jobs(before=job_id) == []
    assert client.cancel(job_id) == "canceled"
    client.delete(job_id)


def test_what_is_no_id_is_found_nowhere(client: Darkroom) -> None:
    for nothing in (None, 5, ["a"], object()):
        job_id: Any = nothing
        assert client.cancel(job_id) == "not_found"
        with pytest.raises(JobNotFound):
            client.get(job_id)


def test_an_empty_tenant_does_not_list_everybodys_jobs(client: Darkroom) -> None:
    client.submit(REQUEST)
    with pytest.raises(InvalidRequest, match="tenant"):
        client.jobs(tenant="")


def test_the_index_of_ended_jobs_goes_with_the_last_record(client: Darkroom, hand: Hand) -> None:
    hand.run(client.submit(REQUEST).id)
    for index in ("index:succeeded", "index:succeeded:default"):
        left = hand.io.run(ask("TTL", Key(index)))
        assert isinstance(left, int) and 0 < left <= TTL
    waiting = client.submit(REQUEST).id
    assert hand.io.run(ask("TTL", Key("index:queued"))) == -1
    assert client.get(waiting).state is State.QUEUED


@pytest.fixture
def own_server() -> Iterator[LocalServer]:
    """One that a test may turn against its clients."""
    with LocalServer() as server:
        yield server


def test_refusals_that_pass_by_themselves_are_worth_another_try(own_server: LocalServer) -> None:
    settings = TaskSettings(redis_url=SecretStr(own_server.url))
    with redis.Redis(port=own_server.port) as raw, Darkroom(settings) as client:
        raw.config_set("min-replicas-to-write", 1)
        with pytest.raises(QueueUnavailable, match="replicas"):
            client.submit(REQUEST)
        raw.config_set("min-replicas-to-write", 0)
        assert client.submit(REQUEST).id


def test_a_replica_is_unavailable_for_writing_not_broken(own_server: LocalServer) -> None:
    with LocalServer("--replicaof", f"127.0.0.1 {own_server.port}") as replica:
        settings = TaskSettings(redis_url=SecretStr(replica.url))
        with Darkroom(settings) as client, pytest.raises(QueueUnavailable):
            client.submit(REQUEST)


def test_a_model_that_came_up_since_is_found(task_settings: TaskSettings, hand: Hand) -> None:
    with Darkroom(task_settings) as client:
        read = client.models()
        hand.serve("newcomer")
        client._market = dataclasses.replace(read, read_at=read.read_at - 1)  # a second old: still fresh
        assert client.submit({"prompt": "a cat", "model": "newcomer"}).warnings == []
