"""The handle of a job that `Darkroom` took in; `darkroom.tasks.async_handles` has that of `AsyncDarkroom`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from darkroom.tasks.events import Event
from darkroom.tasks.job import Job
from darkroom.tasks.operations import CancelAnswer, Handle, Position
from darkroom.tasks.wishes import WishAnswer


class Calls(Protocol):
    """What handles ask of their client."""

    def get(self, job_id: str, /) -> Job: ...
    def wait(self, job_id: str, timeout: float | None = None, /) -> Job: ...
    def watch(self, job_id: str, after: str | None = None, /) -> Iterator[Event]: ...
    def cancel(self, job_id: str, /) -> CancelAnswer: ...
    def save_now(self, job_id: str, /) -> WishAnswer: ...
    def sample_now(self, job_id: str, /) -> WishAnswer: ...
    def position(self, job_id: str, /) -> Position | None: ...


@dataclass(frozen=True)
class JobHandle(Handle):
    """A job that was taken in, and the calls that concern it."""

    client: Calls

    def get(self) -> Job:
        """As Darkroom.get."""
        return self.client.get(self.id)

    def wait(self, timeout: float | None = None) -> Job:
        """As Darkroom.wait."""
        return self.client.wait(self.id, timeout)

    def watch(self, after: str | None = None) -> Iterator[Event]:
        """As Darkroom.watch."""
        return self.client.watch(self.id, after)

    def cancel(self) -> CancelAnswer:
        """As Darkroom.cancel."""
        return self.client.cancel(self.id)

    def save_now(self) -> WishAnswer:
        """As Darkroom.save_now."""
        return self.client.save_now(self.id)

    def sample_now(self) -> WishAnswer:
        """As Darkroom.sample_now."""
        return self.client.sample_now(self.id)

    def position(self) -> Position | None:
        """As Darkroom.position."""
        return self.client.position(self.id)
