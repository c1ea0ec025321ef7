"""`Darkroom`: the producer's client. `darkroom.tasks.aio` has the same for an event loop."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from darkroom.tasks import dead, operations, own_loras, own_versions, records, streams, tenancy
from darkroom.tasks.adapters import OwnLora
from darkroom.tasks.batches.blocking import Batches
from darkroom.tasks.chunks import chunks
from darkroom.tasks.errors import DarkroomError, InvalidRequest, QueueError, WaitTimeout
from darkroom.tasks.events import Event
from darkroom.tasks.following import SharedReader
from darkroom.tasks.handles import JobHandle
from darkroom.tasks.job import Job, Jobs, State, canonical_id
from darkroom.tasks.models import Market, read_market
from darkroom.tasks.objects import StoreFinder, delete_objects, upload
from darkroom.tasks.operations import Asked, CancelAnswer, Draft, Outcome, Position, Submitted
from darkroom.tasks.own_loras import Belongings
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.results import ObjectStore, stored
from darkroom.tasks.settings import TaskSettings, read_settings
from darkroom.tasks.tenancy import Limits, MoveAnswer, Paused, TenantUse
from darkroom.tasks.wishes import WishAnswer, wish


class Darkroom(Batches):
    """Submits jobs and follows them. Safe to share between threads; use it as a context manager or close it.

    Every call raises QueueError (QueueUnavailable within a few seconds) where Redis fails.
    """

    def __init__(self, settings: TaskSettings | None = None, *, storage: ObjectStore | None = None) -> None:
        self._settings = settings or read_settings()
        self._io = BlockingIO(self._settings)
        self._reader = SharedReader(self._io)
        self._store = StoreFinder(storage, self._settings)
        self._market: Market | None = None

    def submit(self, request: Asked, *, job_id: str | None = None) -> JobHandle:
        """Takes a job in and returns at once. Raises InvalidRequest, IdempotencyConflict.

        After a QueueError, submitting again under the error's `job_id` makes no second job.
        """
        own = self._io.run(own_loras.read_named([request]))
        return self._handle(self._io.run(operations.submit(self._draft(request, own, job_id))))

    def submit_many(self, requests: Iterable[Asked]) -> Iterator[Outcome]:
        """Takes in any number of requests through pipelined writes, in flat memory; yields one outcome per request.

        Where Redis fails, the outcomes of that batch carry the error and its job id, and the error is raised. A request
        without an outcome was not sent.
        """
        for batch in chunks(requests):
            own = self._io.run(own_loras.read_named(request for _, request in batch))
            drafts = [self._try_draft(request, own) for _, request in batch]
            yield from self._write(batch, drafts)

    def get(self, job_id: str) -> Job:
        """The record as it is now. Raises JobNotFound, QueueBroken where this version cannot read it."""
        return self._io.run(records.get(job_id, self._store.open))

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Waits for the end, `timeout` seconds at most. Raises WaitTimeout, JobNotFound.

        A job that failed is returned too: `raise_for_state()` turns it into an exception.
        """
        job_id = canonical_id(job_id)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        with self._reader.reading(streams.of_job(job_id)) as reading:
            batch = reading.begin(streams.latest(job_id))
            while not batch.ended:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise WaitTimeout(f"job {job_id} has not ended within {timeout:g} s")
                batch = reading.next(left)
        return self.get(job_id)

    def watch(self, job_id: str, after: str | None = None) -> Iterator[Event]:
        """Events of a job from the start, or after an event id, to its end; steps while watched. Raises JobNotFound."""
        job_id = canonical_id(job_id)
        with self._reader.reading(streams.of_job(job_id, watched=True)) as reading:
            batch = reading.begin(streams.watch(job_id, after))
            yield from batch.events
            while not batch.ended:
                batch = self._reader.run(streams.shown(job_id, reading.next()))
                yield from batch.events

    def feed(self, after: str | None = None) -> Iterator[Event]:
        """State changes of all jobs from now on, or after an event id; never ends."""
        with self._reader.reading(streams.of_all()) as reading:
            yield from reading.begin(streams.newest() if after is None else streams.feed(after)).events
            while True:
                yield from reading.next().events

    def cancel(self, job_id: str) -> CancelAnswer:
        """`canceled` (at once), `cancellation_requested` (at the next step), `already_finished` or `not_found`."""
        return self._io.run(operations.cancel(job_id, self._settings.record_ttl))

    def save_now(self, job_id: str, *, tenant: str | None = None) -> WishAnswer:
        """Has a training keep what it has learned at its next step, and go on: a file `snapshot_{step}` of the job.

        `tenant`: jobs of others are not found. Raises WishNotSupported.
        """
        return self._io.run(wish(job_id, "save", tenant))

    def sample_now(self, job_id: str, *, tenant: str | None = None) -> WishAnswer:
        """Has a training make a round of its samples at its next step, with the LoRA as it is: images of the job.

        `tenant`: jobs of others are not found. Raises WishNotSupported, also where there are no `sample_prompts`.
        """
        return self._io.run(wish(job_id, "sample", tenant))

    def jobs(
        self,
        *,
        tenant: str | None = None,
        state: State | str | Sequence[State | str] | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> Jobs:
        """Newest first; `before` takes the last id of the page before. A page that is not full is the last.

        Records that this version cannot read are left out: `.unreadable` has their ids.
        """
        chosen = operations.states(state)
        return self._io.run(records.jobs(tenant, chosen, limit, before, self._store.open))

    def position(self, job_id: str) -> Position | None:
        """What goes before it: about how many jobs, and seconds; None where it does not wait. Raises JobNotFound."""
        return self._io.run(operations.position(job_id))

    def move_to_front(self, job_id: str, *, tenant: str | None = None) -> MoveAnswer:
        """Lets a job that waits go before all others of its tenant. `tenant`: jobs of others are not found."""
        return self._io.run(tenancy.move_to_front(job_id, tenant))

    def tenants(self) -> list[TenantUse]:
        """Those of which something is set, and those with jobs that wait or run."""
        return self._io.run(tenancy.list_tenants())

    def limits_of(self, tenant: str) -> Limits:
        """What is set of a tenant, with the defaults where nothing is. Raises InvalidRequest."""
        return self._io.run(tenancy.read_limits(tenant))

    def set_limits(self, tenant: str, **limits: Any) -> None:
        """Of a tenant, as the fields of `tenancy.Limits`; those left out are no more. Raises InvalidRequest."""
        self._io.run(tenancy.set_limits(tenant, tenancy.limits(**limits)))

    def pause(self, what: Paused, name: str) -> None:
        """Starts nothing of a `tenant`, or with a `model`, until `resume`; what runs goes on."""
        self._io.run(tenancy.pause(what, name))

    def resume(self, what: Paused, name: str) -> None:
        """Takes a pause back."""
        self._io.run(tenancy.resume(what, name))

    def delete(self, job_id: str) -> None:
        """Forgets a job that has ended, or whose record cannot be read: objects, events, record.

        Raises JobNotFound, JobNotFinished, StorageFailed.
        """
        job = self._io.run(operations.ended(job_id))
        delete_objects(job.id, self._store, made=job.made)
        self._io.run(operations.forget(job_id))

    def dead(self, limit: int = 100) -> Jobs:
        """Jobs that were given up, newest first; `job.attempts` tells what went wrong each time.

        Records that this version cannot read are left out: `.unreadable` has their ids.
        """
        return self._io.run(dead.dead_jobs(limit, self._store.open))

    def retry(self, job_id: str) -> JobHandle:
        """Submits a job that failed once more, as a new one with its seeds.

        The new id follows from the old one: a repeat makes no further job, and its answer is `repeated`. Where the new
        job fails too, it is that one which can be tried again. Raises JobNotFound, JobNotFinished, JobNotFailed.
        """
        request, new_id = dead.asked_again(self.get(job_id))
        again = self.submit(request, job_id=new_id)
        self.drop(job_id)
        return again

    def drop(self, job_id: str) -> bool:
        """Takes a job off the list of those that were given up; False where it is not on it."""
        return self._io.run(dead.drop(job_id))

    def upload(self, picture: str | Path | bytes, *, tenant: str = "default") -> str:
        """Stores an input picture (bytes, or a file's path); returns the key to pass as `image`."""
        return upload(self._store.open(), picture, tenant)

    def loras(self, tenant: str = "default") -> dict[str, OwnLora]:
        """The tenant's own LoRAs by name, of each the newest version."""
        return dict(self._io.run(own_loras.read_all(tenant)).loras)

    def delete_lora(self, name: str, *, tenant: str = "default") -> int:
        """Deletes a LoRA of the tenant's own with all its versions, and says how many. Raises LoraNotFound.

        Jobs that name it and have not begun fail.
        """
        known = self._io.run(own_versions.forget(tenant, name))
        gone: int = stored(lambda: own_versions.delete_files(self._store.open(), tenant, name, known=known))
        return gone

    def models(self) -> Market:
        """What can be asked for, and how many workers serve it."""
        self._market = self._io.run(read_market())
        return self._market

    def ping(self) -> None:
        """Raises QueueError where Redis cannot be used."""
        self._io.run(operations.ping())

    def close(self) -> None:
        """Closes the connections; who watches or waits meanwhile is told with ClientClosed."""
        self._reader.close()
        self._io.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _handle(self, submitted: Submitted) -> JobHandle:
        return JobHandle(submitted, self)

    def _draft(self, request: Asked, own: Belongings, job_id: str | None = None) -> Draft:
        market, known = self._market, self._market is not None and self._market.fresh
        if market is None or not known:
            market = self.models()
        try:
            return operations.draft(request, market, self._settings, job_id, own)
        except InvalidRequest as error:
            if not (known and market.stale_for(error)):
                raise
        return operations.draft(request, self.models(), self._settings, job_id, own)

    def _write(self, batch: Sequence[tuple[int, Any]], drafts: Sequence[Draft | DarkroomError]) -> Iterator[Outcome]:
        """The drafts in one pipeline; an outcome of each and of each error among them. As `submit_many` raises."""
        sent = [item for item in drafts if isinstance(item, Draft)]
        try:
            results = self._io.run(operations.submit_batch(sent)) if sent else []
        except QueueError as error:
            yield from operations.outcomes(batch, drafts, [operations.unsent(d, error) for d in sent])
            raise
        yield from operations.outcomes(batch, drafts, results)

    def _try_draft(self, request: Asked, own: Belongings) -> Draft | DarkroomError:
        try:
            return self._draft(request, own)
        except QueueError:  # the market cannot be read: that concerns the whole batch, not this request
            raise
        except DarkroomError as error:
            return error
