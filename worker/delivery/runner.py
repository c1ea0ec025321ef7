"""What a worker does with a knock: claim, inputs, generate, store, record, tell."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

import structlog
import torch

from darkroom.storage import StorageError, StorageSettings
from darkroom.tasks import claims
from darkroom.tasks.claims import SHARE, Claim, Refusal
from darkroom.tasks.errors import QueueError
from darkroom.tasks.job import JobResult
from darkroom.tasks.message import NO_JOB
from darkroom.tasks.operations import owner
from darkroom.tasks.places import Has, Place
from darkroom.tasks.redis_io import BlockingIO, Operation
from darkroom.tasks.requests import JobRequest
from darkroom.tasks.settings import TaskSettings
from darkroom.tasks.validate import check_kept
from darkroom.worker.adapters.own_files import OwnFiles
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.standing import asking
from darkroom.worker.delivery.attempt import Attempt, Canceled, Drained, Expired, LeaseLost, OutOfPatience
from darkroom.worker.delivery.endings import INTERNAL_ERROR, job_error
from darkroom.worker.delivery.image_threads import ImageThreads
from darkroom.worker.delivery.inputs import read_inputs
from darkroom.worker.delivery.journal import StoredJournal
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.delivery.leftovers import Sweep
from darkroom.worker.delivery.patience import PatientStore
from darkroom.worker.delivery.published import check_name, publish
from darkroom.worker.delivery.publisher import ProgressPublisher
from darkroom.worker.delivery.results import (
    Results,
    encode_picture,
    pack_file,
    store_manifest,
    stored_file,
    stored_image,
)
from darkroom.worker.delivery.samples import StoredSamples
from darkroom.worker.delivery.storekeeper import StoreKeeper
from darkroom.worker.delivery.timings import Timings
from darkroom.worker.errors import DeviceBroken
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import make_manifest
from darkroom.worker.images.own import own_at_hand
from darkroom.worker.images.steps import Abandoned, OnStep
from darkroom.worker.kinds.base import PreparedJob, Sources
from darkroom.worker.kinds.products import Produced


@dataclass(frozen=True)
class Ending:
    """How an attempt ended: the operation that records it, False where the claim is lost, and the line for the log."""

    write: Callable[[], Operation[bool]]
    action: str
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Surroundings:
    """What all jobs of a process share. Times in seconds; `leave` ends the process.

    `generators` by model name, `has` what each has beyond the first release. `places`: the lanes that are served
    now, of which those behind others have the `share` of a class. `running` a job of a lane, where it may.
    """

    io: BlockingIO
    keeper: StoreKeeper
    storage: StorageSettings
    generators: Mapping[str, Generator]
    images: ImageThreads
    leases: LeaseKeeper
    sweep: Sweep
    worker: str
    lease_seconds: float
    rules: TaskSettings
    preview_every: float
    patience: float
    leave: Callable[[DeviceBroken], None]
    own_files: OwnFiles
    places: Callable[[], Sequence[Place]]
    share: float = SHARE
    has: Has = field(default_factory=dict)
    running: Callable[[str], AbstractContextManager[bool]] = lambda _: nullcontext(enter_result=True)


class JobRunner:
    """Runs jobs, on any number of threads. Whatever a job raises ends that job alone."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._log = structlog.get_logger()

    def __call__(self, named: str) -> None:
        """One knock, to its end: the job whose turn it is. `named`: the job that the knock names.

        While the store cannot be used it is put back: the job may have another worker.
        """
        if trouble := self._around.keeper.trouble:
            return self._put_back(trouble.code)
        claim = self._claim("" if named == NO_JOB else named)
        return self.run(claim) if claim else None

    def run(self, claim: Claim) -> None:
        """A job that was claimed, to its end."""
        log = self._log.bind(job_id=claim.job_id, model=claim.request.model, tenant=claim.request.tenant)
        log.info("job.claimed", claim=claim.number, waited_s=round(claim.waited, 3))
        with self._around.leases.hold(claim) as attempt, self._around.running(claim.request.lane) as may:
            try:
                ending = self._attempt(attempt) if may else self._handed_back(attempt)
                held = self._around.leases.persist(ending.write)
            except LeaseLost:
                held = False
        if held:
            log.info(ending.action, **ending.fields)
        else:
            log.warning("job.lease_lost")
        if claim.number > 1 or not held or ending.action != "job.succeeded" or claim.request.archives:
            self._around.sweep(claim.job_id)

    def _handed_back(self, attempt: Attempt) -> Ending:
        return Ending(
            lambda: claims.hand_back(attempt.claim, self._around.rules, "busy"), "job.handed_back", {"reason": "busy"}
        )

    def _put_back(self, reason: str) -> None:
        try:
            self._around.leases.persist(lambda: claims.knock_again(self._around.places()))
        except LeaseLost as error:  # the janitor will knock again
            reason = str(error)
        self._log.info("job.not_taken", reason=reason)

    def _claim(self, named: str) -> Claim | None:
        around, places = self._around, self._around.places()
        has = {name: around.has.get(name, ()) for name in around.generators}
        token = uuid4().hex  # one token: a claim whose answer was lost is ours
        try:
            found = around.leases.persist(
                lambda: claims.claim_next(
                    places, around.worker, around.lease_seconds, around.rules, has, token=token, named=named,
                    share=around.share,
                )
            )  # fmt: skip
        except LeaseLost as error:  # the janitor will knock again
            self._log.error("job.not_claimed", error=str(error))
            return None
        if isinstance(found, Refusal):
            self._log.info("job.knock_dropped", job_id=found.job_id or None, reason=found.reason)
            return None
        return found

    def _attempt(self, attempt: Attempt) -> Ending:
        """Runs the job; what is to be recorded of its end. Raises LeaseLost where it is no longer ours."""
        claim, rules = attempt.claim, self._around.rules
        timings = Timings(queued=claim.waited)
        try:
            with ExitStack() as held:
                made, manifest, warnings = self._work(attempt, timings, held)
        except Canceled:
            return Ending(lambda: claims.confirm_cancel(claim, rules), "job.canceled")
        except Expired:
            return Ending(lambda: claims.confirm_expired(claim, rules), "job.expired")
        except Drained:
            return Ending(lambda: claims.hand_back(claim, rules), "job.handed_back")
        except OutOfPatience:
            return Ending(lambda: claims.hand_back(claim, rules, "storage_away"), "job.handed_back")
        except LeaseLost:
            raise
        except BaseException as error:  # noqa: BLE001 - a SystemExit or MemoryError must end the job, not the worker
            if isinstance(error, DeviceBroken):  # the others are handed back: here they would all fail
                self._around.leave(error)
            failure = job_error(error)
            said: dict[str, object] = {"code": failure.code, "error": failure.message}
            if failure.code == INTERNAL_ERROR:
                said["exc_info"] = error
            return Ending(lambda: claims.fail(claim, failure, rules), "job.failed", said)
        result = JobResult(manifest=manifest, timings=timings.rounded(), warnings=warnings)
        images = [*map(stored_image, made.images), *map(stored_image, made.samples)]
        files = list(map(stored_file, made.files))
        done = {"images": len(images), **({"files": len(files)} if files else {}), **result.timings}
        return Ending(lambda: claims.succeed(claim, result, images, rules, files), "job.succeeded", done)

    def _work(self, attempt: Attempt, timings: Timings, held: ExitStack) -> tuple[Results, str, list[str]]:
        """What was made, the manifest's key, and warnings. `held`: what it needs until its end."""
        claim, generators = attempt.claim, self._around.generators
        generator = generators[claim.model]
        attempt.check()
        check_name(claim, self._around.leases)
        check_kept(claim.request, generator.entry, {name: one.entry for name, one in generators.items()})
        with timings.phase("inputs"):
            tell = partial(self._tell_waiting, attempt)
            store = PatientStore(self._around.keeper, self._around.patience, attempt.check, tell)
            inputs = store.retry(lambda: self._inputs(claim.request))
            held.enter_context(own_at_hand(claim.request, generator, self._around.own_files, store))
        urgent = claim.request.lane == "interactive"
        with timings.phase("prepare"), asking(urgent=urgent, check=attempt.check):
            prepared = generator.prepare(claim.request, generators)
            sources = prepared.kind.read(prepared, inputs, self._around.storage.input_max_pixels)
            digests = {name: hashlib.sha256(data).hexdigest() for name, data in inputs.items()}
        made = Results(attempt, store, self._around.leases, timings)
        piece = _Piece(self._around, attempt, generator, made, store, prepared, sources, timings)
        self._around.images.make(piece.make, claim.request.pieces, urgent=urgent)
        with timings.phase("generate"):
            files = prepared.kind.files_of_job(prepared, made.pictures())
        for file in files:
            made.keep(pack_file(claim.job_id, file))
        models = {name: generator.model for name, generator in generators.items()}
        manifest = make_manifest(
            claim.job_id, claim.request, generator.model, made.images, timings.rounded(), digests, made.files, models,
            list(generator.used(prepared)), generator.style_used(prepared), made.samples,
        )  # fmt: skip
        attempt.check()
        with timings.phase("store"):
            key = store_manifest(store, manifest)
            publish(claim, made, generator, self._around.leases, store, self._around.keeper.store)
        return made, key, prepared.warnings

    def _inputs(self, request: JobRequest) -> dict[str, bytes]:
        around = self._around
        return read_inputs(
            request,
            around.keeper.store,
            around.storage,
            lambda job_id: around.leases.persist(lambda: owner(job_id)) == request.tenant,
        )

    def _tell_waiting(self, attempt: Attempt, trouble: StorageError) -> None:
        """Tells those who watch the job; a courtesy, as progress is."""
        try:
            attempt.heard(self._around.io.run(claims.waiting(attempt.claim, "storage_away", trouble.code)))
        except QueueError as error:
            self._log.warning("job.progress_not_told", code=error.code)


class _Piece:
    """Makes the pictures of one job, each on the thread that asks for it."""

    def __init__(
        self,
        around: Surroundings,
        attempt: Attempt,
        generator: Generator,
        results: Results,
        store: PatientStore,
        prepared: PreparedJob,
        sources: Sources,
        timings: Timings,
    ) -> None:
        self._attempt, self._generator, self._results = attempt, generator, results
        self._prepared, self._sources, self._timings = prepared, sources, timings
        self._several = partial(around.images.make, urgent=False)
        self._publisher = ProgressPublisher(around.io, attempt, around.preview_every, generator.preview)
        samples = StoredSamples(attempt, generator, around.own_files, results, self._publisher)
        self._journal = StoredJournal(attempt, store, around.keeper, around.leases, self._publisher, samples)

    def make(self, index: int, over: threading.Event) -> None:
        """Generates, stores and records what is made for one image. Raises Stopped, DarkroomError, StorageError."""
        claim, timings = self._attempt.claim, self._timings
        seed = claim.request.seed_of(index)
        urgent, solo = claim.request.lane == "interactive", claim.request.batching == "solo"
        ticket = Ticket(urgent=urgent, solo=solo, on_wait=partial(self._go_on, over))
        self._attempt.check()
        with timings.phase("generate"), asking(urgent=urgent, check=ticket.on_wait):
            prepared, told = self._prepared.piece(index), self._on_step(index, over)
            made = self._generator.generate(prepared, seed, self._sources, told, ticket, self._journal, self._several)
        timings.add("company", ticket.waited)
        self._keep(index, seed, made, str(ticket.placements))

    def _keep(self, index: int, seed: int, produced: Produced, calls: str) -> None:
        job_id = self._attempt.claim.job_id
        if produced.image:
            with self._timings.phase("encode"):
                picture = encode_picture(job_id, index, seed, produced.image, self._prepared.piece(index), calls)
            self._results.keep(picture)
        for file in produced.files:
            self._results.keep(pack_file(job_id, file.of_image(index), "" if produced.image else calls))

    def _on_step(self, index: int, over: threading.Event) -> OnStep:
        def on_step(step: int, of: int, latents: torch.Tensor) -> None:
            if over.is_set():
                raise Abandoned
            self._publisher.step(index, step, of, latents)

        return on_step

    def _go_on(self, over: threading.Event) -> None:
        """Asked while a piece waits. Raises Stopped, Abandoned."""
        if over.is_set():
            raise Abandoned
        self._attempt.check()
