"""What a raw client may push straight into a queue: the worker stays up, and the next job runs."""

import base64
import json
import pickle
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from darkroom.tasks import State
from darkroom.tasks.dead import drop_garbage, garbage
from darkroom.tasks.message import knock
from darkroom.tasks.redis_io import BlockingIO

from .place import Place

QUEUE = "queue:tiny-sdxl:interactive"


def message(**changes: Any) -> bytes:
    return json.dumps({**json.loads(knock(str(uuid4()), QUEUE)), **changes}).encode()


def body(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def without(name: str) -> bytes:
    whole = json.loads(message())
    del whole[name]
    return json.dumps(whole).encode()


KINDS = {
    "nothing": (b"", "JSONDecodeError"),
    "bytes that are no text": (b"\x9c\xc3\x28", "UnicodeDecodeError"),
    "text that is no JSON": (b"run job 7, please", "JSONDecodeError"),
    "half a message": (message()[:200], "JSONDecodeError"),
    "another shape": (b"[1, 2, 3]", "TypeError"),
    "null": (b"null", "TypeError"),
    "no headers": (without("headers"), "KeyError"),
    "no properties": (without("properties"), "KeyError"),
    "no body": (without("body"), "KeyError"),
    "a body that is not base64": (message(body="not base64!"), "Error"),
    "a body of another shape": (message(body=body({"job": 7})), "KeyError"),
    "an id that is none": (message(body=body([["../../etc/passwd"], {}, {}])), "badly formed"),
    "an unknown task": (message(headers={"task": "os.system"}), "'os.system' is not known here"),
    "a pickle": (pickle.dumps({"task": "darkroom.run"}), "UnicodeDecodeError"),
    "a pickle in the body": (message(body=base64.b64encode(pickle.dumps([["id"], {}])).decode()), "UnicodeDecodeError"),
    "8 MB": (b"x" * 8_000_000, "8000000 bytes"),
    "brackets without end": (b"[" * 50_000, "RecursionError"),
}


@pytest.fixture
def io(place: Place) -> Iterator[BlockingIO]:
    io = BlockingIO(place.settings)
    io.run(drop_garbage())
    yield io
    io.close()


def test_garbage_harms_nobody_and_is_kept_with_its_reason(place: Place, io: BlockingIO) -> None:
    for raw, _ in KINDS.values():
        place.server.admin.lpush(place.key(QUEUE), raw)
    assert place.submit().wait(60).state is State.SUCCEEDED
    notes = io.run(garbage(100))
    assert [note.bytes for note in reversed(notes)] == [len(raw) for raw, _ in KINDS.values()]
    for note, (raw, reason) in zip(reversed(notes), KINDS.values(), strict=True):
        assert reason in note.reason
        assert raw.startswith(base64.b64decode(note.start))
        assert note.queue == QUEUE


def test_garbage_at_a_full_server_and_a_queue_that_is_none(place: Place) -> None:
    handle = place.submit(num_inference_steps=200)
    place.server.admin.lpush(place.key(QUEUE), *(raw for raw, _ in KINDS.values() if len(raw) < 1000))
    place.server.admin.config_set("maxmemory", "1mb")
    assert handle.wait(60).state is State.SUCCEEDED
    place.server.admin.config_set("maxmemory", "0")
    assert place.submit().wait(60).state is State.SUCCEEDED
    place.server.admin.set(place.key(QUEUE), "of another type")
    place.server.admin.delete(place.key(QUEUE))
    assert place.submit().wait(60).state is State.SUCCEEDED


def test_what_is_kept_of_garbage_is_bounded(place: Place) -> None:
    place.server.admin.lpush(place.key(QUEUE), *(b"%d" % number for number in range(1200)))
    assert place.submit().wait(60).state is State.SUCCEEDED
    assert place.server.admin.llen(place.key("garbage")) == 1000
    assert place.server.admin.ttl(place.key("garbage")) > 0
