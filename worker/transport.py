"""Kombu's Redis transport with a guard at the door: a message is a job's id, and nothing else gets past here.

Stock, bytes that are no JSON kill the worker and a body that is not base64 kills every worker in turn. Here the id is
read out of whatever came, a clean message is made of it, and what has none is put aside with the reason.
"""

import base64
import json
import time
from queue import Empty
from typing import Any
from uuid import UUID

import structlog
from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.utils.encoding import bytes_to_str

from darkroom.tasks.message import TASK_NAME, knock

MAX_BYTES = 64 * 1024  # a knock has about 1 kB
GARBAGE_KEY = "garbage"  # list of JSON, newest first; the transport puts the prefix before it
GARBAGE_KEPT = 1000
GARBAGE_BYTES = 2000  # of each that are kept


class Garbage(ValueError):
    """Bytes that are no knock; the text says why."""


def job_id_of(raw: bytes) -> str:
    """The job's id in a message as a queue's list holds it. Raises Garbage."""
    if len(raw) > MAX_BYTES:
        raise Garbage(f"{len(raw)} bytes, at most {MAX_BYTES} are read")
    try:
        message = json.loads(raw)
        task, encoding = message["headers"]["task"], message["properties"].get("body_encoding")
        body = message["body"]
        args = json.loads(base64.b64decode(body, validate=True) if encoding == "base64" else body)[0]
        if task != TASK_NAME:
            raise Garbage(f"the task {str(task)[:100]!r} is not known here")
        return str(UUID(args[0]))
    except Garbage:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise Garbage(f"not a knock: {type(error).__name__}: {error}"[:300]) from None


class Channel(redis.Channel):  # type: ignore[misc]
    """Delivers clean knocks only."""

    def _brpop_read(self, **options: Any) -> bool:
        # As in kombu 5.7, but for the reading of the message.
        try:
            try:
                found = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not found:
                raise Empty
            key, raw = found
            queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self._let_in(raw, queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _let_in(self, raw: bytes, queue: str) -> None:
        try:
            message = json.loads(knock(job_id_of(raw), queue))
        except Garbage as error:
            self._put_aside(raw, queue, str(error))
        else:
            self.connection._deliver(message, queue)

    def _put_aside(self, raw: bytes, queue: str, reason: str) -> None:
        structlog.get_logger().warning("message.garbage", queue=queue, bytes=len(raw), reason=reason)
        kept = {"time": time.time(), "queue": queue, "reason": reason, "bytes": len(raw),
                "start": base64.b64encode(raw[:GARBAGE_BYTES]).decode()}  # fmt: skip
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.lpush(GARBAGE_KEY, json.dumps(kept))
            pipe.ltrim(GARBAGE_KEY, 0, GARBAGE_KEPT - 1)
            pipe.execute()


class Transport(redis.Transport):  # type: ignore[misc]
    """The stock transport with our channel."""

    Channel = Channel


def install() -> None:
    """Lets this process's `redis://` and `rediss://` brokers be read through the guard."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))
