"""What the worker lets in: a job's id, out of whatever the queue's list holds."""

import base64
import json
from typing import Any

import pytest
from kombu import Connection

from darkroom.tasks.message import knock
from darkroom.worker.process.transport import MAX_BYTES, Garbage, SentinelTransport, Transport, job_id_of

JOB = "01a209bb-372a-71b4-836d-eec8aa7450ae"


def envelope(**changes: Any) -> bytes:
    return json.dumps({**json.loads(knock(JOB, "queue:m:interactive")), **changes}).encode()


def body(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def test_the_id_is_read_out_of_a_knock() -> None:
    assert job_id_of(envelope()) == JOB


def test_a_body_that_is_not_in_base64_is_read_too() -> None:
    properties = {**json.loads(envelope())["properties"], "body_encoding": None}
    assert job_id_of(envelope(body=json.dumps([[JOB], {}, {}]), properties=properties)) == JOB


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        b'"x"',
        b"[" * 20_000,
        b"\x80\x04N.",
        b"x" * (MAX_BYTES + 1),
        envelope(headers=None),
        envelope(properties=[]),
        envelope(body="!!!"),
        envelope(body=None),
        envelope(body=body([])),
        envelope(body=body([[["a"]], {}, {}])),
        envelope(body=body([["no-uuid"], {}, {}])),
        envelope(body=base64.b64encode(b"\x80\x04N.").decode()),
        envelope(headers={"task": "os.system"}),
    ],
    ids=range(18),
)
def test_everything_else_is_garbage_with_a_reason(raw: bytes) -> None:
    with pytest.raises(Garbage, match=r"\w"):
        job_id_of(raw)


@pytest.mark.parametrize(
    ("broker", "transport"), [("redis://127.0.0.1:1/0", Transport), ("sentinel://127.0.0.1:1/0", SentinelTransport)]
)
def test_a_worker_that_stops_waits_shortly_for_the_read_under_way(broker: str, transport: type) -> None:
    with Connection(broker, transport=transport) as connection:
        assert 0 < connection.transport.brpop_timeout <= 0.3
