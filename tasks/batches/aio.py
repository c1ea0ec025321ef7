"""Batches of `AsyncDarkroom`. Each call is that of `darkroom.tasks.batches.blocking`, awaited."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from darkroom.tasks import dead, own_loras, streams
from darkroom.tasks import operations as jobs
from darkroom.tasks.async_handles import AsyncJobHandle, Calls
from darkroom.tasks.batches import operations
from darkroom.tasks.batches.blocking import LAST
from darkroom.tasks.batches.models import Batch, BatchItem
from darkroom.tasks.batches.operations import CancelBatch, Part, Place
from darkroom.tasks.chunks import async_chunks
from darkroom.tasks.errors import DarkroomError, InvalidRequest, JobNotFound
from darkroom.tasks.events import Event
from darkroom.tasks.following import AsyncSharedReader
from darkroom.tasks.job import State
from darkroom.tasks.operations import Asked, Draft, Outcome, Submitted
from darkroom.tasks.redis_io import AsyncIO
from darkroom.tasks.settings import TaskSettings


class Client(Calls, Protocol):
    """What a batch asks of its client."""

    _io: AsyncIO
    _reader: AsyncSharedReader
    _settings: TaskSettings

    async def get_batch(self, batch_id: str) -> Batch: ...
    def _handle(self, submitted: Submitted) -> AsyncJobHandle: ...
    async def _draft(self, request: Asked, own: own_loras.Belongings, job_id: str | None = None) -> Draft: ...
    async def _try_draft(self, request: Asked, own: own_loras.Belongings) -> Draft | DarkroomError: ...
    def _write(
        self, batch: Sequence[tuple[int, Any]], drafts: Sequence[Draft | DarkroomError]
    ) -> AsyncIterator[Outcome]: ...


@dataclass(frozen=True)
class AsyncBatchHandle:
    """A batch, and the calls that concern it."""

    client: Client
    id: str
    name: str
    tenant: str

    async def submit(self, request: Asked, custom_id: str) -> AsyncJobHandle:
        """As BatchHandle.submit."""
        operations.check_custom_id(custom_id)
        return await self._submitted(request, custom_id)

    async def submit_many(
        self, requests: Iterable[tuple[str, Asked]] | AsyncIterable[tuple[str, Asked]]
    ) -> AsyncIterator[Outcome]:
        """As BatchHandle.submit_many."""
        async for batch in async_chunks(requests):
            asked = [(number, operations.try_request(self._place, *pair)) for number, pair in batch]
            own = await self.client._io.run(
                own_loras.read_named(one for _, one in asked if not isinstance(one, InvalidRequest))
            )
            drafts = [
                await self._try_draft(pair[0], one, own) for (_, pair), (_, one) in zip(batch, asked, strict=True)
            ]
            async for outcome in self.client._write(batch, drafts):
                yield outcome

    async def seal(self, finally_: Asked | None = None) -> AsyncJobHandle | None:
        """As BatchHandle.seal."""
        held = None if finally_ is None else await self._submitted(finally_, LAST, "last")
        await self.client._io.run(operations.seal(self.id, self.client._settings.record_ttl))
        return held

    async def get(self) -> Batch:
        """As BatchHandle.get."""
        return await self.client.get_batch(self.id)

    async def watch(self, after: str | None = None) -> AsyncIterator[Event]:
        """As BatchHandle.watch."""
        with self.client._reader.reading(streams.of_batch(self.id)) as reading:
            batch = await reading.begin(streams.first_of_batch(self.id, after))
            for event in batch.events:
                yield event
            while not batch.ended:
                batch = await reading.next()
                for event in batch.events:
                    yield event

    async def cancel(self) -> CancelBatch:
        """As BatchHandle.cancel."""
        return await self.client._io.run(operations.cancel(self.id, self.client._settings.record_ttl))

    async def retry(self) -> int:
        """As BatchHandle.retry."""
        count = 0
        async for item in self.items(State.FAILED):
            try:
                request, new_id = dead.asked_again(await self.client.get(item.job_id))
                digest = await self.client._io.run(operations.digest_of(item.job_id))
                own = await self.client._io.run(own_loras.read_named([request]))
                drafted = await self.client._draft(request, own, new_id)
            except (InvalidRequest, JobNotFound):
                continue
            again = operations.into(drafted, self._place, item.custom_id, "retry", digest)
            count += not (await self.client._io.run(jobs.submit(again))).repeated
        return count

    async def items(self, state: State | str | None = None, after: str | None = None) -> AsyncIterator[BatchItem]:
        """As BatchHandle.items."""
        wanted = jobs.states(state)
        while True:
            page, after = await self.client._io.run(operations.items(self.id, after))
            for item in page:
                if item.state in wanted:
                    yield item
            if after is None:
                return

    @property
    def _place(self) -> Place:
        return Place(self.id, self.name, self.tenant)

    async def _submitted(self, request: Asked, custom_id: str, part: Part = "") -> AsyncJobHandle:
        asked = operations.request_of(self._place, request)
        own = await self.client._io.run(own_loras.read_named([asked]))
        drafted = operations.into(await self.client._draft(asked, own), self._place, custom_id, part)
        return self.client._handle(await self.client._io.run(jobs.submit(drafted)))

    async def _try_draft(
        self, custom_id: str, asked: Asked | InvalidRequest, own: own_loras.Belongings
    ) -> Draft | DarkroomError:
        drafted = asked if isinstance(asked, InvalidRequest) else await self.client._try_draft(asked, own)
        return operations.into(drafted, self._place, custom_id) if isinstance(drafted, Draft) else drafted


class AsyncBatches:
    """What a client can do with batches."""

    async def batch(
        self, name: str | None = None, *, tenant: str = "default", metadata: Mapping[str, Any] | None = None
    ) -> AsyncBatchHandle:
        """As Darkroom.batch."""
        client = _of(self)
        return AsyncBatchHandle(
            client, *await client._io.run(operations.open_batch(name, tenant, metadata, client._settings))
        )

    async def batches(self, *, tenant: str | None = None, limit: int = 50, before: str | None = None) -> list[Batch]:
        """As Darkroom.batches."""
        return await _of(self)._io.run(operations.batches(tenant, limit, before))

    async def get_batch(self, batch_id: str, *, tenant: str = "default") -> Batch:
        """As Darkroom.get_batch."""
        return await _of(self)._io.run(operations.get(batch_id, tenant))


def _of(client: Any) -> Client:
    found: Client = client
    return found
