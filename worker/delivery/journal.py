"""What an attempt keeps of a job that takes long, so that another one can go on with it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import structlog

from darkroom.storage import StorageError
from darkroom.tasks import claims, records
from darkroom.tasks.results import StoredFile, no_store
from darkroom.tasks.wishes import Wish, met, wished
from darkroom.worker.delivery.attempt import Attempt, LeaseLost, Stopped
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.delivery.patience import PatientStore
from darkroom.worker.delivery.publisher import ProgressPublisher
from darkroom.worker.delivery.results import pack_file, stored_file
from darkroom.worker.delivery.samples import StoredSamples
from darkroom.worker.delivery.storekeeper import StoreKeeper
from darkroom.worker.images.manifest import FileRecord
from darkroom.worker.kinds.products import ProducedFile

CHECKPOINT = "checkpoint"  # of the whole job; its record forgets it when the job has succeeded


class StoredJournal:
    """`darkroom.worker.kinds.journal.Journal`: a file of the job's, which its record names.

    A newer one is stored first, then recorded, then the older one is deleted: there is always one to go on from.
    """

    def __init__(
        self,
        attempt: Attempt,
        store: PatientStore,
        keeper: StoreKeeper,
        leases: LeaseKeeper,
        told: ProgressPublisher,
        samples: StoredSamples,
    ) -> None:
        self._attempt, self._store, self._keeper, self._leases, self._told = attempt, store, keeper, leases, told
        self._role, self._extension = CHECKPOINT, "safetensors"
        self._index: int | None = None
        self._samples = samples
        self._kept: StoredFile | None = None

    def of(self, role: str, extension: str) -> "StoredJournal":
        """That of a file of the job's only piece: as it was kept last it may be among what the piece has made."""
        other = copy(self)
        other._role, other._extension, other._index, other._kept = role, extension, 0, None
        return other

    def kept(self) -> bytes | None:
        """Of the record. Raises Stopped, StorageError."""
        job = self._leases.persist(lambda: records.get(self._attempt.claim.job_id, no_store))
        self._kept = next((file for file in job.files if file.role == self._role), None)
        self._samples.recall(job.images)
        self._attempt.heard(claims.Hold.WISH)  # who had it before may have begun what is still wished: not a step later
        return self._store.get(self._kept.key) if self._kept else None

    def keep(self, data: bytes) -> None:
        """Raises Stopped, and as PatientStore.put."""
        self._attempt.check()
        self._write(data)

    def step(self, step: int, of: int, said: Mapping[str, float], save: Callable[[], bytes] | None) -> None:
        """Raises Stopped."""
        with self._keeping(save):
            self._told.report(step, of, said)

    def sample(
        self, step: int, of: int, first: int | None, lora: Callable[..., bytes], save: Callable[[], bytes]
    ) -> None:
        """Raises as StoredSamples.make."""
        with self._keeping(save if step else None):
            self._samples.make(step, of, first, lora)

    @contextmanager
    def _keeping(self, save: Callable[[], bytes] | None) -> Iterator[None]:
        """Where the attempt ends in the block what there is to save is kept first."""
        try:
            yield
        except LeaseLost:
            raise
        except Stopped:
            if save:
                self._write(save())
            raise

    def wishes(self) -> Sequence[Wish]:
        """Of the record, once the renewal of the lease, or whatever else was written, has told of any."""
        return self._leases.persist(lambda: wished(self._attempt.claim)) if self._attempt.is_wished() else ()

    def grant(self, one: Wish, file: ProducedFile | None = None) -> None:
        """Raises Stopped, and as PatientStore.put."""
        self._attempt.check()
        if file:
            self._put(file, meets=one)
        else:
            self._attempt.heard(self._leases.persist(lambda: met(self._attempt.claim, one)))

    def _write(self, data: bytes) -> None:
        made = ProducedFile(self._role, data, self._extension, self._index)
        before, file = self._kept, self._put(made, goes_on=True)
        self._kept = file
        if before and before.key != file.key and not self._attempt.lost:
            try:
                self._keeper.store.delete(before.key)
            except StorageError as error:  # it is found once the job has ended
                structlog.get_logger().warning("job.not_swept", job_id=self._attempt.claim.job_id, code=error.code)

    def _put(self, made: ProducedFile, **more: Any) -> StoredFile:
        """Stored, then recorded with what more is to be said of it."""
        record = pack_file(self._attempt.claim.job_id, made).record
        assert isinstance(record, FileRecord)
        file = stored_file(record)
        self._store.put(file.key, made.data, file.content_type, file.sha256)
        self._attempt.heard(self._leases.persist(lambda: claims.file(self._attempt.claim, file, **more)))
        return file
