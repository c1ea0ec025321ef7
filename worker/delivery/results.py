"""Stores what a job made: pictures and files under their digests, and the manifest that makes them again."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from PIL import Image

from darkroom.tasks import claims
from darkroom.tasks.claims import Claim, Hold
from darkroom.tasks.redis_io import Operation
from darkroom.tasks.results import StoredFile, StoredImage, in_order
from darkroom.worker.delivery.attempt import Attempt
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.delivery.patience import PatientStore
from darkroom.worker.delivery.timings import Timings
from darkroom.worker.images.manifest import FileRecord, ImageRecord, Manifest, SampleRecord, manifest_key
from darkroom.worker.images.pictures import encode, parameters_text
from darkroom.worker.kinds.base import PreparedJob
from darkroom.worker.kinds.products import ProducedFile
from darkroom.worker.kinds.sources import read_picture

AnyRecord = ImageRecord | SampleRecord | FileRecord


@dataclass(frozen=True, slots=True)
class Made:
    """A picture or a file: what the manifest says of it, and the bytes to store under its key."""

    record: AnyRecord
    data: bytes


def encode_picture(job_id: str, index: int, seed: int, picture: Image.Image, prepared: PreparedJob, calls: str) -> Made:
    """The picture's file, and what is to be recorded of it."""
    request, facts = prepared.request, prepared.kind.facts(prepared)
    text = parameters_text(prepared.asked, seed, picture.size, str(request.model), facts)
    data, content_type = encode(picture, prepared.asked.output_format, text)
    return Made(ImageRecord.of(job_id, index, seed, picture, data, content_type, calls), data)


def pack_file(job_id: str, file: ProducedFile, calls: str = "") -> Made:
    """A produced file, and what is to be recorded of it."""
    return Made(FileRecord.of(job_id, file, calls), file.data)


class Results:
    """What an attempt at a job has made so far: each is stored, then recorded and told. For any number of threads."""

    def __init__(self, attempt: Attempt, store: PatientStore, leases: LeaseKeeper, timings: Timings) -> None:
        self._attempt, self._store, self._leases, self._timings = attempt, store, leases, timings
        self._made: dict[str, AnyRecord] = {}

    def keep(self, made: Made) -> None:
        """One more. Raises Stopped, and as PatientStore.put."""
        claim, record = self._attempt.claim, made.record
        self._attempt.check()
        with self._timings.phase("store"):
            self._store.put(record.key, made.data, record.content_type, record.sha256)
        self._attempt.heard(self._leases.persist(lambda: _telling(claim, record)))
        self._made[record.key] = record

    @property
    def images(self) -> list[ImageRecord]:
        """The pictures, by their indices."""
        found = (record for record in self._made.values() if isinstance(record, ImageRecord))
        return sorted(found, key=lambda record: record.index)

    def recall(self, images: Iterable[StoredImage]) -> None:
        """What earlier attempts at the job have left of samples."""
        for sample in (_sample(image) for image in images if image.step is not None):
            self._made[sample.key] = sample

    @property
    def samples(self) -> list[SampleRecord]:
        """Of a training, by their indices, those of earlier attempts among them."""
        found = (record for record in self._made.values() if isinstance(record, SampleRecord))
        return sorted(found, key=lambda record: record.index)

    @property
    def files(self) -> list[FileRecord]:
        """The files, in the order that `job.files` has."""
        found = {file.key: file for file in self._made.values() if isinstance(file, FileRecord)}
        return [found[file.key] for file in in_order([stored_file(file) for file in found.values()])]

    def pictures(self) -> Iterator[Image.Image]:
        """The pictures as they were stored, one after the other. Raises as PatientStore.retry."""
        for record in self.images:
            yield read_picture(self._store.get(record.key))


def _telling(claim: Claim, record: AnyRecord) -> Operation[Hold]:
    if isinstance(record, FileRecord):
        return claims.file(claim, stored_file(record))
    return claims.image(claim, stored_image(record))


def _sample(image: StoredImage) -> SampleRecord:
    return SampleRecord.model_validate(image.model_dump())


def stored_image(record: ImageRecord | SampleRecord) -> StoredImage:
    """What the job's record says of a picture."""
    return StoredImage.model_validate(record.model_dump(exclude={"pixels_sha256", "calls"}))


def stored_file(record: FileRecord) -> StoredFile:
    """What the job's record says of a file."""
    return StoredFile.model_validate(record.model_dump(exclude={"calls"}))


def store_manifest(store: PatientStore, manifest: Manifest) -> str:
    """Stores the manifest; returns its key. Raises as PatientStore.put."""
    data = manifest.to_bytes()
    key = manifest_key(manifest.job_id, data)
    store.put(key, data, "application/json", hashlib.sha256(data).hexdigest())
    return key
