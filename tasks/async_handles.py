"""The handle of a job that `AsyncDarkroom` took in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from darkroom.tasks.events import Event
from darkroom.tasks.job import Job
from darkroom.tasks.operations import CancelAnswer, Handle, Position
from darkroom.tasks.wishes import WishAnswer


class Calls(Protocol):
    """What handles ask of their client."""

    async def get(self, job_id: str, /) -> Job: ...
    async def wait(self, job_id: str, timeout: float | None = None, /) -> Job: ...
    def watch(self, job_id: str, after: str | None = None, /) -> AsyncIterator[Event]: ...
    async def cancel(self, job_id: str, /) -> CancelAnswer: ...
    async def save_now(self, job_id: str, /) -> WishAnswer: ...
    async def sample_now(self, job_id: str, /) -> WishAnswer: ...
    async def position(self, job_id: str, /) -> Position | None: ...


@dataclass(frozen=True)
class AsyncJobHandle(Handle):
    """A job that was taken in, and the calls that concern it."""

    client: Calls

    async def get(self) -> Job:
        """As AsyncDarkroom.get."""
        return await self.client.get(self.id)

    async def wait(self, timeout: float | None = None) -> Job:
        """As AsyncDarkroom.wait."""
        return await self.client.wait(self.id, timeout)

    def watch(self, after: str | None = None) -> AsyncIterator[Event]:
        """As AsyncDarkroom.watch."""
        return self.client.watch(self.id, after)

    async def cancel(self) -> CancelAnswer:
        """As AsyncDarkroom.cancel."""
        return await self.client.cancel(self.id)

    async def save_now(self) -> WishAnswer:
        """As AsyncDarkroom.save_now."""
        return await self.client.save_now(self.id)

    async def sample_now(self) -> WishAnswer:
        """As AsyncDarkroom.sample_now."""
        return await self.client.sample_now(self.id)

    async def position(self) -> Position | None:
        """As AsyncDarkroom.position."""
        return await self.client.position(self.id)
