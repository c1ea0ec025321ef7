"""What is read back from Redis: garbage ends in one known error, never in a surprise."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from darkroom.tasks import (
    Event,
    InvalidRequest,
    Job,
    JobFailed,
    QueueBroken,
    State,
    StorageNotConfigured,
    Txt2Img,
    parse_request,
)
from darkroom.tasks.events import DataUrl
from darkroom.tasks.models import read_market

EVENT = {b"type": b"job.image", b"time": b"1700000000.250", b"job_id": b"j", b"tenant": b"t", b"data": b'{"index": 1}'}

IMAGE = {
    "index": 0, "key": "j/0-aa.png", "seed": 7, "width": 64, "height": 64,
    "sha256": "a" * 64, "bytes": 9, "content_type": "image/png",
}  # fmt: skip

FILE = {
    "role": "latents", "index": 0, "key": "j/latents-0-aa.safetensors",
    "sha256": "a" * 64, "bytes": 9, "content_type": "application/octet-stream",
}  # fmt: skip

RECORD = {
    b"id": b"j",
    b"tenant": b"t",
    b"model": b"m",
    b"lane": b"m:bulk",
    b"kind": b"txt2img",
    b"request": json.dumps(Txt2Img(prompt="a cat", model="m", seeds=[7, 8], metadata={"a": 1}).model_dump()).encode(),
    b"warnings": b'["prompt_truncated"]',
    b"state": b"queued",
    b"created": b"1700000000000",
    b"claims": b"0",
    b"failures": b"0",
}


def job(**fields: str) -> Job:
    return Job.decode({**RECORD, **{name.encode(): value.encode() for name, value in fields.items()}})


@pytest.mark.parametrize(
    "taken",
    [
        {"kind": "img2img", "image": "sketch.png"},
        {"start_by": "2026-01-02T00:00:00Z", "finish_by": "2026-01-01T00:00:00Z"},
    ],
)
def test_a_request_that_would_be_refused_today_can_be_read(taken: dict[str, str]) -> None:
    request = {"prompt": "a cat", "model": "m", "seeds": [7], **taken}
    with pytest.raises(InvalidRequest):
        parse_request(request)
    assert job(request=json.dumps(request)).request.prompt == "a cat"


def test_an_event() -> None:
    event = Event.decode(b"5-1", EVENT)
    assert event == Event("5-1", "job.image", 1700000000.25, "j", "t", {"index": 1})
    assert event.when == datetime(2023, 11, 14, 22, 13, 20, 250_000, UTC)
    assert not event.terminal
    assert event.as_dict()["id"] == "5-1"


@pytest.mark.parametrize("name", sorted(EVENT))
def test_an_event_that_lacks_a_field(name: bytes) -> None:
    with pytest.raises(QueueBroken, match="no event of ours"):
        Event.decode(b"5-1", {key: value for key, value in EVENT.items() if key != name})


@pytest.mark.parametrize(
    "change", [{b"time": b"now"}, {b"data": b"{"}, {b"data": b"5"}, {b"type": b"\xff"}, {b"\xff": b""}]
)
def test_an_event_that_is_garbage(change: dict[bytes, bytes]) -> None:
    with pytest.raises(QueueBroken):
        Event.decode(b"5-1", {**EVENT, **change})


def test_a_preview_is_short_where_it_is_shown() -> None:
    """Who prints an event's data wants no base64, and who uses it wants all of it."""
    url = DataUrl("data:image/jpeg;base64," + "A" * 5000)
    event = Event("5-1", "job.progress", 1.0, "j", "t", {"step": 1, "preview": url})
    assert str(event.data) == "{'step': 1, 'preview': <data: URL of 5023 characters>}"
    assert len(repr(event)) < 200
    assert event.data["preview"] == str(url) == f"{url}" and len(url) == 5023
    assert json.loads(json.dumps(event.as_dict()))["data"]["preview"] == url


def test_an_event_of_a_later_version_is_read() -> None:
    assert Event.decode(b"5-1", {**EVENT, b"type": b"job.retried", b"more": b"x"}).type == "job.retried"


def test_a_job() -> None:
    found = job(
        state="running", started="1700000001500", worker="w", cancel="1", progress='{"image":0,"step":2,"of":4}'
    )
    assert (found.id, found.tenant, found.lane, found.state) == ("j", "t", "bulk", State.RUNNING)
    assert (found.seeds, found.metadata, found.warnings) == ([7, 8], {"a": 1}, ["prompt_truncated"])
    assert found.started_at == datetime(2023, 11, 14, 22, 13, 21, 500_000, UTC)
    assert found.progress is not None
    assert (found.progress.step, found.cancel_requested, found.worker) == (2, True, "w")


def test_pictures_come_in_their_order() -> None:
    images = {f"image/{i}": json.dumps({**IMAGE, "index": i}) for i in (10, 2, 0)}
    assert [image.index for image in job(**images).images] == [0, 2, 10]


def test_files_come_in_the_order_of_their_pictures_and_those_of_the_job_last() -> None:
    places = [("sheet", None), ("latents", 10), ("mask", 2), ("latents", 2), ("lora", None)]
    made = {f"file/{role}/{i}": json.dumps({**FILE, "role": role, "index": i}) for role, i in places}
    found = [file.place for file in job(**made).files]
    assert found == ["latents/2", "mask/2", "latents/10", "lora", "sheet"]


def test_all_that_a_record_names() -> None:
    made = {"image/0": json.dumps(IMAGE), "file/latents/0": json.dumps(FILE), "result": '{"manifest": "j/m.json"}'}
    assert job(**made).object_keys == ["j/0-aa.png", "j/latents-0-aa.safetensors", "j/m.json"]
    assert job().object_keys == []


def test_a_file_of_a_later_version_is_read() -> None:
    """A role of a form that today's workers do not give, and more about it, must not hide the job."""
    (file,) = job(**{"file/x": json.dumps({**FILE, "role": "Later-Role", "more": 1})}).files
    assert file.role == "Later-Role"


def test_warnings_of_both_sides_are_said_once() -> None:
    result = {"manifest": "j/m.json", "warnings": ["prompt_truncated", "other"]}
    assert job(result=json.dumps(result)).warnings == ["prompt_truncated", "other"]


@pytest.mark.parametrize("name", sorted(RECORD))
def test_a_record_that_lacks_a_field(name: bytes) -> None:
    with pytest.raises(QueueBroken, match=f"cannot be read: it has no '{name.decode()}'"):
        Job.decode({key: value for key, value in RECORD.items() if key != name})


@pytest.mark.parametrize(
    "change",
    [
        {"state": "paused"},
        {"created": "yesterday"},
        {"claims": "many"},
        {"request": "{"},
        {"request": "[]"},
        {"request": '{"kind": "txt2img"}'},
        {"image/0": "{}"},
        {"file/sheet": "{}"},
        {"progress": "5"},
        {"result": "[]"},
        {"error": '{"code": 5}'},
        {"warnings": "x"},
        {"created": "1e400"},
    ],
)
def test_a_record_that_is_garbage(change: dict[str, str]) -> None:
    with pytest.raises(QueueBroken, match="cannot be read"):
        job(**change)


@pytest.mark.parametrize("state", list(State))
def test_raise_for_state(state: State) -> None:
    found = job(state=state)
    if state in (State.SUCCEEDED, State.QUEUED, State.RUNNING):
        assert found.raise_for_state() is found
    else:
        with pytest.raises(JobFailed, match=f"job j {state}") as caught:
            found.raise_for_state()
        assert caught.value.error["code"] == f"job_{state}"


def test_a_failed_job_raises_its_own_error() -> None:
    error = {"code": "input_bomb", "message": "too large", "hint": "scale it down"}
    with pytest.raises(JobFailed, match="too large") as caught:
        job(state="failed", error=json.dumps(error)).raise_for_state()
    assert (caught.value.error["code"], caught.value.hint) == ("input_bomb", "scale it down")


def test_results_without_a_store_say_what_to_configure() -> None:
    found = job(**{"image/0": json.dumps(IMAGE), "file/latents/0": json.dumps(FILE)})
    for made in (*found.images, *found.files):
        with pytest.raises(StorageNotConfigured) as caught:
            made.read()
        assert "DARKROOM_STORAGE_URL" in caught.value.hint


def test_offers_that_this_version_cannot_read_are_left_out() -> None:
    reading = read_market()
    next(reading)
    replies: list[Any] = [b"later", b'{"name": "later", "shape": "round"}', b"", 3, []]
    with pytest.raises(StopIteration) as stop:
        reading.send(replies)
    assert "later" not in stop.value.value.offers
    assert stop.value.value.sole_model() is None
