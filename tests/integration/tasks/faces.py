"""One face for both clients: the contract is written once, in the words of the blocking one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any, cast

from darkroom.tasks import AsyncBatchHandle, AsyncDarkroom, AsyncJobHandle, Darkroom, TaskSettings


class AsyncFace:
    """An AsyncDarkroom, or a handle of its, on an event loop that runs while a call is awaited and no longer."""

    def __init__(self, runner: asyncio.Runner, inner: Any) -> None:
        self._runner, self._inner = runner, inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return (lambda *args, **kwargs: self._answer(found(*args, **kwargs))) if callable(found) else found

    def _answer(self, result: Any) -> Any:
        if isinstance(result, AsyncIterator):
            return self._pulled(result)
        if isinstance(result, Awaitable):
            result = self._runner.run(_awaited(result))
        return AsyncFace(self._runner, result) if isinstance(result, AsyncJobHandle | AsyncBatchHandle) else result

    def _pulled(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                yield self._runner.run(_awaited(anext(items)))
            except StopAsyncIteration:
                return


async def _awaited(result: Awaitable[Any]) -> Any:
    await asyncio.sleep(0)  # a loop that stood still hears now of what became of its sockets
    return await result


def blocking(settings: TaskSettings, **options: Any) -> Darkroom:
    """The blocking client."""
    return Darkroom(settings, **options)


def event_loop(settings: TaskSettings, **options: Any) -> Darkroom:
    """The client for an event loop, to be used as if it were the blocking one."""
    runner = asyncio.Runner()
    client = _AsyncClient(runner, runner.run(_made(settings, options)))
    return cast("Darkroom", client)


class _AsyncClient(AsyncFace):
    def close(self) -> None:
        self._runner.run(_awaited(self._inner.close()))
        self._runner.close()


async def _made(settings: TaskSettings, options: dict[str, Any]) -> AsyncDarkroom:
    return AsyncDarkroom(settings, **options)
