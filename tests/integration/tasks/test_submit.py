"""Submitting: what is in Redis afterwards, and that it is there once."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis

from darkroom.tasks import Darkroom, IdempotencyConflict, Img2Img, InvalidRequest, State, TaskSettings, Txt2Img
from darkroom.tasks.validate import MAX_REQUEST_BYTES
from tests.integration.hand import Hand

from .conftest import Faces


def dump(raw: "redis.Redis[str]", settings: TaskSettings) -> dict[str, str]:
    """Every key under the prefix, with its type."""
    return {key: str(raw.type(key)) for key in raw.scan_iter(f"{settings.redis_prefix}*")}


def test_a_job_is_there_at_once(client: Darkroom) -> None:
    handle = client.submit(Txt2Img(prompt="a cat", num_images=2, metadata={"chat": [1, {"é": None}]}, tenant="acme"))
    job = client.get(handle.id)
    assert UUID(handle.id).version == 7
    assert (job.state, job.model, job.tenant, job.lane, job.kind) == (
        State.QUEUED, "sdxl", "acme", "interactive", "txt2img",
    )  # fmt: skip
    assert job.seeds == handle.seeds
    assert len(set(handle.seeds)) == 2
    assert job.metadata == {"chat": [1, {"é": None}]}
    assert (job.request.width, job.request.num_inference_steps) == (1024, 40)
    assert (job.claims, job.failures, job.started_at, job.images, job.result) == (0, 0, None, [], None)


def test_img2img_comes_back_as_it_was(client: Darkroom) -> None:
    handle = client.submit(Img2Img(prompt="a cat", image="inputs/default/x.png", strength=0.25, negative_prompt=""))
    request = client.get(handle.id).request
    assert isinstance(request, Img2Img)
    assert (request.image, request.strength, request.negative_prompt) == ("inputs/default/x.png", 0.25, "")


def test_plain_data_is_a_request_too(client: Darkroom) -> None:
    assert client.submit({"prompt": "a cat", "seed": 5}).seeds == [5]


def test_a_refused_request_leaves_nothing(client: Darkroom, raw: "redis.Redis[str]", task_settings: Any) -> None:
    before = dump(raw, task_settings)
    with pytest.raises(InvalidRequest) as caught:
        client.submit({"prompt": "", "width": 513, "model": "sdxl", "num_inference_steps": 201})
    assert {fault.field for fault in caught.value.faults} == {"prompt", "width", "num_inference_steps"}
    with pytest.raises(InvalidRequest, match="no-such-model"):
        client.submit(Txt2Img(prompt="a cat", model="no-such-model"))
    with pytest.raises(InvalidRequest, match="at most 327680"):
        client.submit({"prompt": "a cat", "metadata": {"a": "x" * MAX_REQUEST_BYTES}})
    assert dump(raw, task_settings) == before


def test_the_keys_that_a_job_takes(client: Darkroom, raw: "redis.Redis[str]", task_settings: TaskSettings) -> None:
    prefix = task_settings.redis_prefix
    before = dump(raw, task_settings).keys()
    handle = client.submit(Txt2Img(prompt="a cat", tenant="acme", idempotency_key="k 1"))
    assert {k.removeprefix(prefix): v for k, v in dump(raw, task_settings).items() if k not in before} == {
        f"job:{handle.id}": "hash",
        f"events:{handle.id}": "stream",
        "feed": "stream",
        "clock": "string",
        "deadlines": "zset",
        "index:queued": "zset",
        "index:queued:acme": "zset",
        "queued:sdxl:interactive": "zset",
        "wait:sdxl:interactive:acme:": "zset",
        "turn:sdxl:interactive:acme": "zset",
        "turn:sdxl:interactive": "zset",
        "waits:acme": "set",
        "queue:sdxl:interactive": "list",
        "lanes": "set",
        "idempotency:acme:k 1": "string",
    }
    message = json.loads(raw.lrange(f"{prefix}queue:sdxl:interactive", 0, -1)[0])
    assert message["headers"]["id"] == handle.id
    assert "a cat" not in json.dumps(message)


def test_warnings(client: Darkroom, hand: Hand) -> None:
    assert client.submit(Txt2Img(prompt="a cat")).warnings == []
    assert client.submit(Txt2Img(prompt="cat " * 100)).warnings == ["prompt_truncated"]
    cut = Txt2Img(prompt="cat " * 100, model="sd-1.5", long_prompt="cut")
    handle = client.submit(cut)
    assert handle.warnings == ["no_worker", "prompt_truncated"]
    assert handle.get().warnings == ["prompt_truncated"]  # whether a worker was up is true of that moment only


def test_a_request_that_names_no_model(face: Faces, task_settings: TaskSettings, hand: Hand) -> None:
    with pytest.raises(InvalidRequest, match="no model is served now: name one to wait for, of lcm-sd"):
        face(task_settings).submit(Txt2Img(prompt="a cat"))
    hand.serve("mine")
    assert face(task_settings).submit(Txt2Img(prompt="a cat")).get().model == "mine"
    hand.serve("other")
    with pytest.raises(InvalidRequest, match=r"several models are served: name one of mine, other$"):
        face(task_settings).submit(Txt2Img(prompt="a cat"))
    chosen = task_settings.model_copy(update={"default_model": "other"})
    assert face(chosen).submit(Txt2Img(prompt="a cat")).get().model == "other"


def test_submitting_again_under_an_id_makes_no_second_job(client: Darkroom) -> None:
    job_id = str(uuid4())
    first = client.submit(Txt2Img(prompt="a cat"), job_id=job_id)
    again = client.submit(Txt2Img(prompt="a cat"), job_id=job_id)
    assert (again.id, again.seeds) == (job_id, first.seeds)
    assert (first.submitted.repeated, again.submitted.repeated) == (False, True)
    assert len(client.jobs()) == 1
    with pytest.raises(IdempotencyConflict, match=job_id):
        client.submit(Txt2Img(prompt="a dog"), job_id=job_id)


@pytest.mark.parametrize("job_id", ["", "job-1", "../../etc", "x" * 1000])
def test_an_id_is_a_uuid(client: Darkroom, job_id: str) -> None:
    with pytest.raises(InvalidRequest, match="UUID"):
        client.submit(Txt2Img(prompt="a cat"), job_id=job_id)


def test_an_idempotency_key_stands_for_one_job(client: Darkroom, hand: Hand) -> None:
    request = Txt2Img(prompt="a cat", idempotency_key="order 7", num_images=2)
    first = client.submit(request)
    assert (client.submit(request).id, client.submit(request).seeds) == (first.id, first.seeds)
    hand.run(first.id)
    assert client.submit(request).id == first.id  # the end of the job does not free its key
    with pytest.raises(IdempotencyConflict, match=first.id):
        client.submit(Txt2Img(prompt="a cat", idempotency_key="order 7", num_images=3))
    assert client.submit(Txt2Img(prompt="a dog", idempotency_key="order 7", tenant="acme")).id != first.id
    assert len(client.jobs()) == 2


def test_the_key_of_a_deleted_job_is_free(client: Darkroom) -> None:
    first = client.submit(Txt2Img(prompt="a cat", idempotency_key="k"))
    first.cancel()
    client.delete(first.id)
    assert client.submit(Txt2Img(prompt="a dog", idempotency_key="k")).id != first.id


def test_keys_expire(client: Darkroom, raw: "redis.Redis[str]", task_settings: TaskSettings) -> None:
    client.submit(Txt2Img(prompt="a cat", idempotency_key="k"))
    assert 0 < raw.ttl(f"{task_settings.redis_prefix}idempotency:default:k") <= task_settings.idempotency_ttl


def test_sixteen_at_once_submit_one_job(task_settings: TaskSettings, hand: Hand) -> None:
    hand.serve()
    with Darkroom(task_settings) as client, ThreadPoolExecutor(16) as pool:
        request = Txt2Img(prompt="a cat", idempotency_key="k")
        handles = [*pool.map(lambda _: client.submit(request), range(64))]
        assert len({(handle.id, *handle.seeds) for handle in handles}) == 1
        assert sum(not handle.submitted.repeated for handle in handles) == 1
        assert len(client.jobs()) == 1


def test_prefixes_are_worlds_apart(face: Faces, task_settings: TaskSettings, client: Darkroom) -> None:
    handle = client.submit(Txt2Img(prompt="a cat"))
    elsewhere = face(task_settings.model_copy(update={"redis_prefix": "elsewhere:"}))
    assert elsewhere.jobs() == []
    assert elsewhere.cancel(handle.id) == "not_found"
