"""What a worker does with a knock: claim, inputs, generate, store, record, tell."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
import torch
from PIL import Image

from darkroom.storage import ObjectStore, StorageSettings
from darkroom.storage.images import open_image
from darkroom.storage.inputs import read_input
from darkroom.tasks import claims
from darkroom.tasks.claims import Claim, Refusal
from darkroom.tasks.errors import QueueError
from darkroom.tasks.job import JobResult, StoredImage
from darkroom.tasks.operations import owner
from darkroom.tasks.redis_io import BlockingIO, Operation
from darkroom.tasks.requests import Img2Img, Request
from darkroom.worker.endings import job_error
from darkroom.worker.generate import Generator, PreparedJob
from darkroom.worker.leases import Attempt, Canceled, LeaseKeeper, LeaseLost
from darkroom.worker.manifest import ImageRecord, make_manifest
from darkroom.worker.pictures import prepare_source
from darkroom.worker.publisher import ProgressPublisher
from darkroom.worker.results import encode_picture, store_manifest, store_picture
from darkroom.worker.timings import Timings

RETRY_SECONDS = 0.5

Ending = Callable[[], Operation[bool]]


@dataclass(frozen=True)
class Surroundings:
    """What all jobs of a process share. `generators` by model name; times in seconds."""

    io: BlockingIO
    store: ObjectStore
    storage: StorageSettings
    generators: Mapping[str, Generator]
    leases: LeaseKeeper
    worker: str
    lease_seconds: float
    record_ttl: int
    preview_every: float


class JobRunner:
    """Runs jobs by id, on any number of threads. Whatever a job raises ends that job alone."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._log = structlog.get_logger()

    def __call__(self, job_id: str) -> None:
        """One knock, to its end."""
        claim = self._claim(job_id)
        if claim is None:
            return
        log = self._log.bind(job_id=claim.job_id, model=claim.request.model, tenant=claim.request.tenant)
        log.info("job.claimed", claim=claim.number, waited_s=round(claim.waited, 3))
        with self._around.leases.hold(claim) as attempt:
            ending = self._attempt(attempt)
            if not self._record(ending, claim):
                log.warning("job.lease_lost")

    def _claim(self, job_id: str) -> Claim | None:
        around = self._around
        try:
            found = around.io.run(claims.claim(str(job_id), around.worker, around.lease_seconds, around.record_ttl))
        except QueueError as error:  # the janitor will knock again
            self._log.error("job.not_claimed", job_id=str(job_id)[:64], code=error.code)
            return None
        if isinstance(found, Refusal):
            self._log.info("job.knock_dropped", job_id=str(job_id)[:64], reason=found.reason)
            return None
        return found

    def _attempt(self, attempt: Attempt) -> Ending | None:
        """How the job ends; None where it is no longer ours."""
        claim, ttl = attempt.claim, self._around.record_ttl
        log = self._log.bind(job_id=claim.job_id)
        timings = Timings(queued=claim.waited)
        try:
            images, manifest, warnings = self._work(attempt, timings)
        except Canceled:
            log.info("job.canceled")
            return lambda: claims.confirm_cancel(claim, ttl)
        except LeaseLost:
            return None
        except BaseException as error:  # noqa: BLE001 - a SystemExit or MemoryError must end the job, not the worker
            failure = job_error(error)
            log.error("job.failed", code=failure.code, error=failure.message)
            return lambda: claims.fail(claim, failure, ttl)
        result = JobResult(manifest=manifest, timings=timings.rounded(), warnings=warnings)
        log.info("job.succeeded", images=len(images), **timings.rounded())
        return lambda: claims.succeed(claim, result, images, ttl)

    def _work(self, attempt: Attempt, timings: Timings) -> tuple[list[StoredImage], str, list[str]]:
        """The pictures, the manifest's key, and warnings."""
        claim, generator = attempt.claim, self._around.generators[str(attempt.claim.request.model)]
        with timings.phase("inputs"):
            source, input_sha256 = self._source(claim.request)
        with timings.phase("prepare"):
            prepared = generator.prepare(claim.request)
            if source is not None:  # once for all images; the generator leaves a picture of its own size as it is
                asked = prepared.asked
                source = prepare_source(source, asked.width, asked.height, generator.model.entry.limits)
        image = _ImageWork(self._around, attempt, generator, prepared, source, timings)
        records = [image.make(index, seed) for index, seed in enumerate(claim.request.seeds or [])]
        manifest = make_manifest(claim.job_id, claim.request, generator.model, records, timings.rounded(), input_sha256)
        attempt.check()
        with timings.phase("store"):
            key = store_manifest(self._around.store, manifest)
        return image.stored, key, prepared.warnings

    def _source(self, request: Request) -> tuple[Image.Image | None, str | None]:
        """The input picture and its file's SHA-256. Raises InputError, StorageError."""
        if not isinstance(request, Img2Img):
            return None, None
        around = self._around
        data = read_input(
            request.image,
            tenant=request.tenant,
            store=around.store,
            settings=around.storage,
            owns_output=lambda job_id: around.io.run(owner(job_id)) == request.tenant,
        )
        return open_image(data, max_pixels=around.storage.input_max_pixels), hashlib.sha256(data).hexdigest()

    def _record(self, ending: Ending | None, claim: Claim) -> bool:
        """Writes the ending while the claim holds. A Redis that is away is waited for, as long as a lease lasts."""
        deadline = time.monotonic() + self._around.lease_seconds
        while ending is not None:
            try:
                return self._around.io.run(ending())
            except QueueError as error:
                self._log.warning("job.ending_not_recorded", job_id=claim.job_id, code=error.code)
                if time.monotonic() > deadline:
                    return False
                time.sleep(RETRY_SECONDS)
        return False


class _ImageWork:
    """Makes the pictures of one job, one after the other."""

    def __init__(
        self,
        around: Surroundings,
        attempt: Attempt,
        generator: Generator,
        prepared: PreparedJob,
        source: Image.Image | None,
        timings: Timings,
    ) -> None:
        self._around, self._attempt, self._generator = around, attempt, generator
        self._prepared, self._source, self._timings = prepared, source, timings
        self._publisher = ProgressPublisher(around.io, attempt, around.preview_every)
        self.stored: list[StoredImage] = []

    def make(self, index: int, seed: int) -> ImageRecord:
        """Generates, stores and records one picture. Raises Stopped, DarkroomError, StorageError."""
        claim, timings = self._attempt.claim, self._timings
        self._attempt.check()
        with timings.phase("generate"):
            picture = self._generator.generate(self._prepared, seed, self._source, self._on_step(index))
        with timings.phase("encode"):
            made = encode_picture(
                claim.job_id,
                index,
                seed,
                picture,
                self._prepared.asked,
                form=claim.request.output_format,
                model=str(claim.request.model),
            )
        self._attempt.check()
        with timings.phase("store"):
            store_picture(self._around.store, made)
        stored = StoredImage.model_validate(made.record.model_dump(exclude={"pixels_sha256"}))
        self._attempt.heard(self._around.io.run(claims.image(claim, stored)))
        self.stored.append(stored)
        return made.record

    def _on_step(self, index: int) -> Callable[[int, int, torch.Tensor], None]:
        return lambda step, of, latents: self._publisher.step(index, step, of, lambda: self._generator.preview(latents))
