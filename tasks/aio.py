"""`AsyncDarkroom`: the producer's client for an event loop. Each call is that of `darkroom.tasks.client`, awaited."""

import asyncio
import math
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from darkroom.tasks import dead, operations, own_loras, own_versions, records, streams, tenancy
from darkroom.tasks.adapters import OwnLora
from darkroom.tasks.async_handles import AsyncJobHandle
from darkroom.tasks.batches.aio import AsyncBatches
from darkroom.tasks.chunks import async_chunks
from darkroom.tasks.errors import DarkroomError, InvalidRequest, QueueError, WaitTimeout
from darkroom.tasks.events import Event
from darkroom.tasks.following import AsyncSharedReader
from darkroom.tasks.job import Job, Jobs, State, canonical_id
from darkroom.tasks.models import Market, read_market
from darkroom.tasks.objects import StoreFinder, delete_objects, upload
from darkroom.tasks.operations import Asked, CancelAnswer, Draft, Outcome, Position, Submitted
from darkroom.tasks.own_loras import Belongings
from darkroom.tasks.redis_io import AsyncIO
from darkroom.tasks.results import ObjectStore, stored
from darkroom.tasks.settings import TaskSettings, read_settings
from darkroom.tasks.tenancy import Limits, MoveAnswer, Paused, TenantUse
from darkroom.tasks.wishes import WishAnswer, wish


class AsyncDarkroom(AsyncBatches):
    """As Darkroom, for one event loop; in another, calls raise QueueBroken. Pictures: `aread`, `asave`, `aurl`."""

    def __init__(self, settings: TaskSettings | None = None, *, storage: ObjectStore | None = None) -> None:
        self._settings = settings or read_settings()
        self._io = AsyncIO(self._settings)
        self._reader = AsyncSharedReader(self._io)
        self._store = StoreFinder(storage, self._settings)
        self._market: Market | None = None

    async def submit(self, request: Asked, *, job_id: str | None = None) -> AsyncJobHandle:
        """As Darkroom.submit."""
        own = await self._io.run(own_loras.read_named([request]))
        return AsyncJobHandle(await self._io.run(operations.submit(await self._draft(request, own, job_id))), self)

    async def submit_many(self, requests: Iterable[Asked] | AsyncIterable[Asked]) -> AsyncIterator[Outcome]:
        """As Darkroom.submit_many; takes an async iterable too."""
        async for batch in async_chunks(requests):
            own = await self._io.run(own_loras.read_named(request for _, request in batch))
            drafts = [await self._try_draft(request, own) for _, request in batch]
            async for outcome in self._write(batch, drafts):
                yield outcome

    async def get(self, job_id: str) -> Job:
        """As Darkroom.get."""
        return await self._io.run(records.get(job_id, self._store.open))

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """As Darkroom.wait."""
        job_id = canonical_id(job_id)
        loop = asyncio.get_running_loop()
        deadline = math.inf if timeout is None else loop.time() + timeout
        with self._reader.reading(streams.of_job(job_id)) as reading:
            batch = await reading.begin(streams.latest(job_id))
            while not batch.ended:
                left = deadline - loop.time()
                if left <= 0:
                    raise WaitTimeout(f"job {job_id} has not ended within {timeout:g} s")
                batch = await reading.next(left)
        return await self.get(job_id)

    async def watch(self, job_id: str, after: str | None = None) -> AsyncIterator[Event]:
        """As Darkroom.watch."""
        job_id = canonical_id(job_id)
        with self._reader.reading(streams.of_job(job_id, watched=True)) as reading:
            batch = await reading.begin(streams.watch(job_id, after))
            while True:
                for event in batch.events:
                    yield event
                if batch.ended:
                    return
                batch = await self._reader.run(streams.shown(job_id, await reading.next()))

    async def feed(self, after: str | None = None) -> AsyncIterator[Event]:
        """As Darkroom.feed."""
        with self._reader.reading(streams.of_all()) as reading:
            batch = await reading.begin(streams.newest() if after is None else streams.feed(after))
            while True:
                for event in batch.events:
                    yield event
                batch = await reading.next()

    async def cancel(self, job_id: str) -> CancelAnswer:
        """As Darkroom.cancel."""
        return await self._io.run(operations.cancel(job_id, self._settings.record_ttl))

    async def save_now(self, job_id: str, *, tenant: str | None = None) -> WishAnswer:
        """As Darkroom.save_now."""
        return await self._io.run(wish(job_id, "save", tenant))

    async def sample_now(self, job_id: str, *, tenant: str | None = None) -> WishAnswer:
        """As Darkroom.sample_now."""
        return await self._io.run(wish(job_id, "sample", tenant))

    async def jobs(
        self,
        *,
        tenant: str | None = None,
        state: State | str | Sequence[State | str] | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> Jobs:
        """As Darkroom.jobs."""
        chosen = operations.states(state)
        return await self._io.run(records.jobs(tenant, chosen, limit, before, self._store.open))

    async def position(self, job_id: str) -> Position | None:
        """As Darkroom.position."""
        return await self._io.run(operations.position(job_id))

    async def move_to_front(self, job_id: str, *, tenant: str | None = None) -> MoveAnswer:
        """As Darkroom.move_to_front."""
        return await self._io.run(tenancy.move_to_front(job_id, tenant))

    async def tenants(self) -> list[TenantUse]:
        """As Darkroom.tenants."""
        return await self._io.run(tenancy.list_tenants())

    async def limits_of(self, tenant: str) -> Limits:
        """As Darkroom.limits_of."""
        return await self._io.run(tenancy.read_limits(tenant))

    async def set_limits(self, tenant: str, **limits: Any) -> None:
        """As Darkroom.set_limits."""
        await self._io.run(tenancy.set_limits(tenant, tenancy.limits(**limits)))

    async def pause(self, what: Paused, name: str) -> None:
        """As Darkroom.pause."""
        await self._io.run(tenancy.pause(what, name))

    async def resume(self, what: Paused, name: str) -> None:
        """As Darkroom.resume."""
        await self._io.run(tenancy.resume(what, name))

    async def delete(self, job_id: str) -> None:
        """As Darkroom.delete."""
        job = await self._io.run(operations.ended(job_id))
        await asyncio.to_thread(delete_objects, job.id, self._store, made=job.made)
        await self._io.run(operations.forget(job_id))

    async def dead(self, limit: int = 100) -> Jobs:
        """As Darkroom.dead."""
        return await self._io.run(dead.dead_jobs(limit, self._store.open))

    async def retry(self, job_id: str) -> AsyncJobHandle:
        """As Darkroom.retry."""
        request, new_id = dead.asked_again(await self.get(job_id))
        again = await self.submit(request, job_id=new_id)
        await self.drop(job_id)
        return again

    async def drop(self, job_id: str) -> bool:
        """As Darkroom.drop."""
        return await self._io.run(dead.drop(job_id))

    async def upload(self, picture: str | Path | bytes, *, tenant: str = "default") -> str:
        """As Darkroom.upload."""
        return await asyncio.to_thread(lambda: upload(self._store.open(), picture, tenant))

    async def loras(self, tenant: str = "default") -> dict[str, OwnLora]:
        """As Darkroom.loras."""
        return dict((await self._io.run(own_loras.read_all(tenant))).loras)

    async def delete_lora(self, name: str, *, tenant: str = "default") -> int:
        """As Darkroom.delete_lora."""
        known = await self._io.run(own_versions.forget(tenant, name))
        delete = partial(own_versions.delete_files, tenant=tenant, name=name, known=known)
        gone: int = await asyncio.to_thread(lambda: stored(lambda: delete(self._store.open())))
        return gone

    async def models(self) -> Market:
        """As Darkroom.models."""
        self._market = await self._io.run(read_market())
        return self._market

    async def ping(self) -> None:
        """As Darkroom.ping."""
        await self._io.run(operations.ping())

    async def close(self) -> None:
        """As Darkroom.close."""
        await self._reader.close()
        await self._io.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _handle(self, submitted: Submitted) -> AsyncJobHandle:
        return AsyncJobHandle(submitted, self)

    async def _draft(self, request: Asked, own: Belongings, job_id: str | None = None) -> Draft:
        market, known = self._market, self._market is not None and self._market.fresh
        if market is None or not known:
            market = await self.models()
        try:
            return operations.draft(request, market, self._settings, job_id, own)
        except InvalidRequest as error:
            if not (known and market.stale_for(error)):
                raise
        return operations.draft(request, await self.models(), self._settings, job_id, own)

    async def _write(
        self, batch: Sequence[tuple[int, Any]], drafts: Sequence[Draft | DarkroomError]
    ) -> AsyncIterator[Outcome]:
        """As Darkroom._write."""
        sent = [item for item in drafts if isinstance(item, Draft)]
        try:
            results = await self._io.run(operations.submit_batch(sent)) if sent else []
        except QueueError as error:
            for outcome in operations.outcomes(batch, drafts, [operations.unsent(d, error) for d in sent]):
                yield outcome
            raise
        for outcome in operations.outcomes(batch, drafts, results):
            yield outcome

    async def _try_draft(self, request: Asked, own: Belongings) -> Draft | DarkroomError:
        try:
            return await self._draft(request, own)
        except QueueError:  # the market cannot be read: that concerns the whole batch, not this request
            raise
        except DarkroomError as error:
            return error
