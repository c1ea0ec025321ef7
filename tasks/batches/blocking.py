"""Batches of `Darkroom`: calls that it gets from here, and the handle. `darkroom.tasks.batches.aio` has the same."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from darkroom.tasks import dead, own_loras, streams
from darkroom.tasks import operations as jobs
from darkroom.tasks.batches import operations
from darkroom.tasks.batches.models import Batch, BatchItem
from darkroom.tasks.batches.operations import CancelBatch, Part, Place
from darkroom.tasks.chunks import chunks
from darkroom.tasks.errors import DarkroomError, InvalidRequest, JobNotFound
from darkroom.tasks.events import Event
from darkroom.tasks.following import SharedReader
from darkroom.tasks.handles import Calls, JobHandle
from darkroom.tasks.job import State
from darkroom.tasks.operations import Asked, Draft, Outcome, Submitted
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.settings import TaskSettings

LAST = "last"  # the custom_id of the job that a batch's end releases; it is none of its items


class Client(Calls, Protocol):
    """What a batch asks of its client."""

    _io: BlockingIO
    _reader: SharedReader
    _settings: TaskSettings

    def get_batch(self, batch_id: str) -> Batch: ...
    def _handle(self, submitted: Submitted) -> JobHandle: ...
    def _draft(self, request: Asked, own: own_loras.Belongings, job_id: str | None = None) -> Draft: ...
    def _try_draft(self, request: Asked, own: own_loras.Belongings) -> Draft | DarkroomError: ...
    def _write(
        self, batch: Sequence[tuple[int, Any]], drafts: Sequence[Draft | DarkroomError]
    ) -> Iterator[Outcome]: ...


@dataclass(frozen=True)
class BatchHandle:
    """A batch, and the calls that concern it."""

    client: Client
    id: str
    name: str
    tenant: str

    def submit(self, request: Asked, custom_id: str) -> JobHandle:
        """Takes a job into the batch. The same custom_id with the same request again is the same job.

        Raises InvalidRequest, IdempotencyConflict (the custom_id has another request), BatchSealed, BatchCanceled.
        """
        operations.check_custom_id(custom_id)
        return self._submitted(request, custom_id)

    def submit_many(self, requests: Iterable[tuple[str, Asked]]) -> Iterator[Outcome]:
        """As Darkroom.submit_many, of pairs of custom_id and request.

        What was refused for a while (QueueFull, QuotaExceeded) says in `error.retry_after` when to try again.
        """
        for batch in chunks(requests):
            asked = [(number, operations.try_request(self._place, *pair)) for number, pair in batch]
            own = self.client._io.run(
                own_loras.read_named(one for _, one in asked if not isinstance(one, InvalidRequest))
            )
            drafts = [self._try_draft(pair[0], one, own) for (_, pair), (_, one) in zip(batch, asked, strict=True)]
            yield from self.client._write(batch, drafts)

    def seal(self, finally_: Asked | None = None) -> JobHandle | None:
        """The batch takes no more jobs, and ends with the last that it has.

        `finally_`: a job that is held until then, and released by the batch's end; none of the items. Raises as submit.
        """
        held = None if finally_ is None else self._submitted(finally_, LAST, "last")
        self.client._io.run(operations.seal(self.id, self.client._settings.record_ttl))
        return held

    def get(self) -> Batch:
        """The batch as it is now. Raises BatchNotFound."""
        return self.client.get_batch(self.id)

    def watch(self, after: str | None = None) -> Iterator[Event]:
        """Its events, to its end: `batch.progress` at most once a second, `batch.completed`. Raises BatchNotFound."""
        with self.client._reader.reading(streams.of_batch(self.id)) as reading:
            batch = reading.begin(streams.first_of_batch(self.id, after))
            yield from batch.events
            while not batch.ended:
                batch = reading.next()
                yield from batch.events

    def cancel(self) -> CancelBatch:
        """Cancels all of its jobs; it takes no more. Cut off, the janitor goes on. Raises BatchNotFound."""
        return self.client._io.run(operations.cancel(self.id, self.client._settings.record_ttl))

    def retry(self) -> int:
        """Submits what failed anew, with its seeds and under its custom_id; how many. What is refused stays."""
        count = 0
        for item in self.items(State.FAILED):
            try:
                request, new_id = dead.asked_again(self.client.get(item.job_id))
                digest = self.client._io.run(operations.digest_of(item.job_id))
                own = self.client._io.run(own_loras.read_named([request]))
                drafted = self.client._draft(request, own, new_id)
            except (InvalidRequest, JobNotFound):
                continue
            again = operations.into(drafted, self._place, item.custom_id, "retry", digest)
            count += not self.client._io.run(jobs.submit(again)).repeated
        return count

    def items(self, state: State | str | None = None, after: str | None = None) -> Iterator[BatchItem]:
        """Its jobs in the order in which they came, after a custom_id. Those whose records are gone are left out."""
        wanted = jobs.states(state)
        while True:
            page, after = self.client._io.run(operations.items(self.id, after))
            yield from (item for item in page if item.state in wanted)
            if after is None:
                return

    @property
    def _place(self) -> Place:
        return Place(self.id, self.name, self.tenant)

    def _submitted(self, request: Asked, custom_id: str, part: Part = "") -> JobHandle:
        asked = operations.request_of(self._place, request)
        own = self.client._io.run(own_loras.read_named([asked]))
        drafted = operations.into(self.client._draft(asked, own), self._place, custom_id, part)
        return self.client._handle(self.client._io.run(jobs.submit(drafted)))

    def _try_draft(
        self, custom_id: str, asked: Asked | InvalidRequest, own: own_loras.Belongings
    ) -> Draft | DarkroomError:
        drafted = asked if isinstance(asked, InvalidRequest) else self.client._try_draft(asked, own)
        return operations.into(drafted, self._place, custom_id) if isinstance(drafted, Draft) else drafted


class Batches:
    """What a client can do with batches."""

    def batch(
        self, name: str | None = None, *, tenant: str = "default", metadata: Mapping[str, Any] | None = None
    ) -> BatchHandle:
        """Makes a batch, or opens the tenant's one of this name; without a name a new one. Raises InvalidRequest."""
        client = _of(self)
        return BatchHandle(client, *client._io.run(operations.open_batch(name, tenant, metadata, client._settings)))

    def batches(self, *, tenant: str | None = None, limit: int = 50, before: str | None = None) -> list[Batch]:
        """Newest first; `before` takes the last id of the page before. Raises BatchNotFound where that one is gone."""
        return _of(self)._io.run(operations.batches(tenant, limit, before))

    def get_batch(self, batch_id: str, *, tenant: str = "default") -> Batch:
        """By id, or by the tenant's name for it. Raises BatchNotFound."""
        return _of(self)._io.run(operations.get(batch_id, tenant))


def _of(client: Any) -> Client:
    found: Client = client
    return found
