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
from redis import Redis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError, ResponseError

from darkroom.tasks.message import TASK_NAME, knock
from darkroom.worker.process.turns import Turns

MAX_BYTES = 64 * 1024  # a knock has about 1 kB
GARBAGE_KEY = "garbage"  # list of JSON, newest first; behind the prefix of all keys
GARBAGE_KEPT = 1000
GARBAGE_BYTES = 2000  # of each that are kept
GARBAGE_SECONDS = 30 * 24 * 3600  # after the last of them the list goes
READ_SECONDS = 0.25  # that one read waits for a message; a worker that is told to stop waits for its end (stock: 1)
REFUSED_SECONDS = 1.0  # between two tries of a server that answers, but refuses to be read


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


def told_garbage(raw: bytes, queue: str, reason: str) -> str:
    """Says so in the log; what is kept of it, as JSON."""
    structlog.get_logger().warning("message.garbage", queue=queue, bytes=len(raw), reason=reason)
    kept = {"time": time.time(), "queue": queue, "reason": reason, "bytes": len(raw),
            "start": base64.b64encode(raw[:GARBAGE_BYTES]).decode()}  # fmt: skip
    return json.dumps(kept)


class _Guard:
    """Delivers clean knocks only, and asks the server for nothing else; mixed into kombu's channels.

    The option `may_take` says whether messages may be read now: those that are not stay for other workers. `turns` says
    which lanes are read, and in which order.
    """

    turns: Turns | None = None

    @staticmethod
    def may_take() -> bool:
        """Always, where the option is not given."""
        return True

    def _queue_bind(self: Any, *_: Any) -> None:
        """Nothing: the submit script knows its list. Stock, a full server or a replica refuses, and the worker ends."""

    def _update_queue_cycle(self: Any) -> None:
        """Reads the lanes of our turns in the place of those that Celery consumes."""
        if self.turns is None:
            super()._update_queue_cycle()  # type: ignore[misc]
        else:
            self._queue_cycle = self.turns

    def _size(self: Any, _queue: str) -> int:
        """Nobody wants to know. Stock, a key of another type ends the worker, and with it its other lanes."""
        return 0

    def _brpop_start(self: Any, timeout: float | None = None) -> None:
        if self.may_take():  # else asked again at the loop's next turn, within a second
            super()._brpop_start(timeout)  # type: ignore[misc]

    def _brpop_read(self: Any, **options: Any) -> bool:
        # As in kombu 5.7, but for the reading of the message and for a server that refuses.
        try:
            found = self._answer(**options)
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

    def _answer(self: Any, **options: Any) -> Any:
        """What the server says to the blocking read; a connection that failed, or that was refused, is given up.

        Stock, a refusal ends the worker: a master that became a replica (READONLY, UNBLOCKED), a key of another type.
        """
        try:
            return self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        except ResponseError as error:
            self.client.connection.disconnect()
            time.sleep(REFUSED_SECONDS)  # Celery connects again at once, and the connection itself would succeed
            raise Disconnected(f"refused: {error}") from error

    def _let_in(self: Any, raw: bytes, queue: str) -> None:
        try:
            message = json.loads(knock(job_id_of(raw), queue))
        except Garbage as error:
            self._put_aside(raw, queue, str(error))
        else:
            # Celery knows the lanes of the models alone, and need not know where a knock lay.
            self.connection._deliver(message, next(iter(self.active_queues), queue))

    def _put_aside(self: Any, raw: bytes, queue: str, reason: str) -> None:
        key, told = self.global_keyprefix + GARBAGE_KEY, told_garbage(raw, queue, reason)
        try:
            # A plain client: kombu's own puts the prefix before the keys of some commands, and LTRIM is none of them.
            with Redis(connection_pool=self.pool).pipeline() as pipe:
                pipe.lpush(key, told)
                pipe.ltrim(key, 0, GARBAGE_KEPT - 1)
                pipe.expire(key, GARBAGE_SECONDS)
                pipe.execute()
        except (RedisError, OSError) as error:  # full, or away: the next job matters more
            structlog.get_logger().warning("message.garbage_not_kept", queue=queue, error=str(error))


class Channel(_Guard, redis.Channel):  # type: ignore[misc]
    """Reads a server."""

    from_transport_options = (*redis.Channel.from_transport_options, "may_take", "turns")


class SentinelChannel(_Guard, redis.SentinelChannel):  # type: ignore[misc]
    """Reads the master that the sentinels name."""

    from_transport_options = (*redis.SentinelChannel.from_transport_options, "may_take", "turns")


class Transport(redis.Transport):  # type: ignore[misc]
    """The stock transport with our channel."""

    Channel = Channel
    brpop_timeout = READ_SECONDS


class SentinelTransport(redis.SentinelTransport):  # type: ignore[misc]
    """The stock transport with our channel."""

    Channel = SentinelChannel
    brpop_timeout = READ_SECONDS


def install() -> None:
    """Lets this process's brokers be read through the guard."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"
