"""The door to Redis: operations are written once, as generators of calls, and run by a blocking or an asyncio driver.

An operation yields a Call, or a list of them (one pipeline), and is sent the reply, or the list of replies. Errors of
redis-py become ours here and nowhere else.
"""

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.exceptions import (
    AuthenticationError,
    DataError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from darkroom.tasks.addresses import is_sentinels
from darkroom.tasks.connections import BLOCK_SECONDS, connect, sentinels_behind
from darkroom.tasks.errors import QueueAuthFailed, QueueBroken, QueueError, QueueFull, QueueUnavailable
from darkroom.tasks.limiter import AsyncLimiter, Limiter
from darkroom.tasks.lua import with_shared
from darkroom.tasks.message import bare_knock
from darkroom.tasks.patience import Patience
from darkroom.tasks.settings import TaskSettings

T = TypeVar("T")


class Key(str):
    """An argument that is a key: the prefix is put before it on the way out."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One command. `script` names a file of `scripts/`; its first argument, the key prefix, is put before `args`.

    What Redis refuses of a call that stands `alone` is its reply, a QueueBroken: the others of its list are no worse.
    """

    args: Sequence[Any]
    script: str | None = None
    blocks: bool = False
    alone: bool = False


Operation = Generator[Call | list[Call], Any, T]


def script(name: str, *args: Any, alone: bool = False) -> Call:
    """A call of `scripts/{name}.lua`."""
    return Call(args, script=name, alone=alone)


def command(*args: Any, blocks: bool = False, alone: bool = False) -> Call:
    """A call of a Redis command."""
    return Call(args, blocks=blocks, alone=alone)


# A full server must still let jobs be worked off; only what adds to it is refused.
_REFUSED_WHEN_FULL = frozenset({"submit", "progress", "word"})

#: Put before each script, in this order, as far as it uses them.
_SHARED = ("keys", "records", "turns", "batches", "life")


@cache
def _source(name: str) -> str:
    folder = files("darkroom.tasks").joinpath("scripts")
    flags = "" if name in _REFUSED_WHEN_FULL else "#!lua flags=allow-oom\n"
    shared = "\n".join(folder.joinpath(f"shared/{part}.lua").read_text() for part in _SHARED)
    knock = f"local KNOCK = [==[{bare_knock()}]==]\n"
    return flags + with_shared(knock + shared, folder.joinpath(f"{name}.lua").read_text())


@cache
def _sha(name: str) -> str:
    return hashlib.sha1(_source(name).encode(), usedforsecurity=False).hexdigest()


#: From here on an error repeats what was sent, such as a password to a server without AUTH, or describes whole clients.
_REPEATS = re.compile(r",? with args beginning with| : <redis")


def ours(error: Exception) -> QueueError:
    """Redis-py's error as one of our tree."""
    if isinstance(error, QueueError):
        return error
    text = _REPEATS.split(str(error), maxsplit=1)[0] or type(error).__name__
    refused = text.startswith(("NOAUTH", "WRONGPASS", "NOPERM", "ACL failure"))  # the last is what a script is told
    if refused or isinstance(error, AuthenticationError | NoPermissionError):
        return QueueAuthFailed(f"Redis refused the credentials: {text}")
    if isinstance(error, UnicodeError | DataError):
        return QueueBroken(f"an id, a name or the server's address cannot be sent: {text}")
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM") or "OOM command not allowed" in text:
        return QueueFull("Redis is out of memory")
    # A failover, a long script, a full disk pass; redis-py takes the first word off where it has a class for it.
    passes = text.startswith(("BUSY ", "LOADING", "MISCONF", "NOREPLICAS", "READONLY", "MASTERDOWN", "TRYAGAIN"))
    if isinstance(error, ResponseError) and not passes and not isinstance(error, ReadOnlyError | MasterDownError):
        return QueueBroken(f"Redis refused: {text}")
    return QueueUnavailable(f"Redis did not answer: {text}")


def _conversation(operation: Operation[T], prefix: str) -> Generator["Batch", list[Any], T]:
    """What both drivers need around an operation: scripts the server lacks are loaded, errors become ours."""
    try:
        asked = next(operation)
        while True:
            calls = [asked] if isinstance(asked, Call) else asked
            replies = yield [_wire(call, prefix) for call in calls]
            unloaded = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unloaded:  # these did not run: the server has not seen the scripts since it started
                loaded = yield [_load(name) for name in {str(calls[i].script) for i in unloaded}]
                refused = [reply for reply in loaded if isinstance(reply, Exception)][:1]
                again = refused * len(unloaded) or (yield [_wire(calls[i], prefix) for i in unloaded])
                for i, reply in zip(unloaded, again, strict=True):
                    replies[i] = reply
            replies = [ours(reply) if isinstance(reply, Exception) else reply for reply in replies]
            failed = [reply for call, reply in zip(calls, replies, strict=True) if _ends_all(call, reply)]
            if failed:
                asked = operation.throw(failed[0])
            else:
                asked = operation.send(replies[0] if isinstance(asked, Call) else replies)
    except StopIteration as stop:
        result: T = stop.value
        return result


Batch = list[Call]


def _failed(batch: Batch, error: Exception, *, closed: bool) -> list[Exception]:
    """The answers to a batch that was not sent, or not answered. Raises what is no error of Redis or its connection."""
    if closed:  # meanwhile, by another thread or task: what redis-py then raises is chance
        error = QueueUnavailable("the client was closed while it waited for Redis")
    elif not isinstance(error, QueueError | RedisError | OSError | UnicodeError):
        raise error
    return [error] * len(batch)


def _ends_all(call: Call, reply: Any) -> bool:
    return isinstance(reply, QueueError) and not (call.alone and isinstance(reply, QueueBroken))


def _wire(call: Call, prefix: str) -> Call:
    if call.script is None:
        args = [prefix + arg if isinstance(arg, Key) else arg for arg in call.args]
        return Call(args, blocks=call.blocks)
    return Call(("EVALSHA", _sha(call.script), 0, prefix, *call.args), blocks=call.blocks)


def _load(name: str) -> Call:
    return command("SCRIPT LOAD", _source(name))


class BlockingIO:
    """Runs operations on redis-py's blocking client. Safe to share between threads."""

    def __init__(self, settings: TaskSettings) -> None:
        self.prefix = settings.redis_prefix
        self._client: redis.Redis = connect(redis, settings, blocking=False)
        self._reader: redis.Redis = connect(redis, settings, blocking=True)
        self._size, self._timeout = settings.redis_connections, settings.redis_timeout
        self._limiter, self._pid = self.limiter(self._size), os.getpid()
        self.closed = 0  # how often

    def run(self, operation: Operation[T]) -> T:
        """The operation's result. Raises QueueError where Redis fails and the operation does not handle it."""
        talk = _conversation(operation, self.prefix)
        try:
            batch = next(talk)
            while True:
                batch = talk.send(self._send(batch))
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _send(self, batch: Batch) -> list[Any]:
        closed = self.closed
        try:
            if batch[0].blocks:
                return [self._reader.execute_command(*batch[0].args)]
            with self._line() as limiter:
                replies = self._exchange(batch)
                limiter.answered()
                return replies
        except Exception as error:  # noqa: BLE001  raised again where it is no trouble with Redis
            return _failed(batch, error, closed=closed != self.closed)

    def _line(self) -> Limiter:
        if self._pid != os.getpid():  # forked: whoever held connections in the parent is not here
            self._limiter, self._pid = self.limiter(self._size), os.getpid()
        return self._limiter

    def limiter(self, size: int) -> Limiter:
        """A line for so many calls at a time, as patient as this one's own."""
        return Limiter(size, self._timeout)

    def _exchange(self, batch: Batch) -> list[Any]:
        if len(batch) == 1:
            return [self._client.execute_command(*batch[0].args)]
        with self._client.pipeline(transaction=False) as pipe:
            for call in batch:
                pipe.execute_command(*call.args)
            return pipe.execute(raise_on_error=False)

    def close(self) -> None:
        """Gives the connections back; one with a blocking read under way is closed by whoever reads."""
        self.closed += 1
        self._client.close()
        self.close_reader()
        for client in (self._client, self._reader):
            for sentinel in sentinels_behind(client):
                sentinel.close()

    def close_reader(self) -> None:
        """Closes the connections for blocking reads that nobody uses."""
        self._reader.connection_pool.disconnect(inuse_connections=False)


class AsyncIO:
    """Runs operations on redis-py's asyncio client. Belongs to one event loop: the first that it is used in."""

    def __init__(self, settings: TaskSettings) -> None:
        self.prefix = settings.redis_prefix
        self._client: redis.asyncio.Redis = connect(redis.asyncio, settings, blocking=False)
        self._reader: redis.asyncio.Redis = connect(redis.asyncio, settings, blocking=True)
        self._timeout = settings.redis_timeout * (2 if is_sentinels(settings.redis_url.get_secret_value()) else 1)
        self._limiter = self.limiter(settings.redis_connections)
        self.closed = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def check_loop(self) -> None:
        """Raises QueueBroken in any other loop, where its connections would break in odd ways."""
        running = asyncio.get_running_loop()
        self._loop = self._loop or running
        if self._loop is not running:
            raise QueueBroken("this client belongs to another event loop", hint="make an AsyncDarkroom in each loop")

    async def run(self, operation: Operation[T]) -> T:
        """As BlockingIO.run."""
        self.check_loop()
        talk = _conversation(operation, self.prefix)
        try:
            batch = next(talk)
            while True:
                batch = talk.send(await self._send(batch))
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _send(self, batch: Batch) -> list[Any]:
        closed = self.closed
        try:
            if batch[0].blocks:
                async with Patience(self._timeout + BLOCK_SECONDS):
                    return [await self._reader.execute_command(*batch[0].args)]
            async with self._limiter as limiter, Patience(self._timeout):
                replies = await self._exchange(batch)
                limiter.answered()
                return replies
        except TimeoutError:
            return [QueueUnavailable(f"Redis did not answer within {self._timeout:g} s")] * len(batch)
        except Exception as error:  # noqa: BLE001  raised again where it is no trouble with Redis
            return _failed(batch, error, closed=closed != self.closed)

    def limiter(self, size: int) -> AsyncLimiter:
        """As BlockingIO.limiter."""
        return AsyncLimiter(size, self._timeout)

    async def _exchange(self, batch: Batch) -> list[Any]:
        if len(batch) == 1:
            return [await self._client.execute_command(*batch[0].args)]
        async with self._client.pipeline(transaction=False) as pipe:
            for call in batch:
                pipe.execute_command(*call.args)
            return await pipe.execute(raise_on_error=False)

    async def close(self) -> None:
        """Gives the connections back."""
        self.closed += 1
        for client in (self._client, self._reader):
            with contextlib.suppress(
                TimeoutError, RedisError, OSError
            ):  # a server that is stuck takes no leave, either
                async with Patience(self._timeout):
                    await client.aclose()
                    for sentinel in sentinels_behind(client):
                        await sentinel.aclose()
