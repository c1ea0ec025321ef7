"""One worker process: load, verify, warm; only then take messages; stop in order."""

import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from importlib.metadata import version

import structlog

from darkroom.storage import open_store
from darkroom.storage.stores import load_settings
from darkroom.tasks.catalogue import load_contents
from darkroom.tasks.errors import QueueError
from darkroom.tasks.message import TRAINING
from darkroom.tasks.operations import ping
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.settings import TaskSettings
from darkroom.worker.adapters.adapters import Adapters
from darkroom.worker.adapters.keeper import BankStats
from darkroom.worker.adapters.own_files import OwnFiles
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.policy import Policy
from darkroom.worker.delivery.alone import Alone
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.delivery.image_threads import ImageThreads
from darkroom.worker.delivery.janitor import Janitor
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.delivery.leftovers import LaterSweep, sweeper
from darkroom.worker.delivery.patience import forget_the_dead
from darkroom.worker.delivery.runner import JobRunner, Surroundings
from darkroom.worker.delivery.storekeeper import StoreKeeper
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.warm import warm, warm_derived
from darkroom.worker.models.device import (
    OFFLOAD_MODES,
    Placement,
    choose_placement,
    default_max_batch,
    images_at_a_time,
)
from darkroom.worker.models.tuning import make_engine
from darkroom.worker.process.abilities import abilities_of
from darkroom.worker.process.app import consume, make_app
from darkroom.worker.process.deaths import new_incarnation, own_name
from darkroom.worker.process.hang import HangGuard, WarmGuard
from darkroom.worker.process.metrics import EngineCollector, metrics_server
from darkroom.worker.process.pinned import Pinned, named_entries
from darkroom.worker.process.presence import Presence
from darkroom.worker.process.reserve import Reserve
from darkroom.worker.process.turns import Lookout, Turns
from darkroom.worker.settings import WorkerSettings


class Service:
    """A worker process from start to end."""

    def __init__(self, models: Sequence[str], tasks: TaskSettings, worker: WorkerSettings) -> None:
        """Raises CatalogueError, ModelUnknown."""
        self._tasks, self._settings = tasks, worker
        self._contents = load_contents(worker.catalogue)
        self._entries = named_entries(models, self._contents)
        self.name = own_name(worker.incarnation or new_incarnation())
        self._repairs = Counter[str]()  # by the janitor, for the metrics
        self._log = structlog.get_logger().bind(worker=self.name)

    def run(self) -> None:
        """Serves until a signal ends it. Raises ModelError, StorageError, QueueAuthFailed, and errors of the device.

        Stopping is the reverse of starting: no new messages, the running jobs to their end or handed back, then leases
        and janitor, then the word that this worker serves, then the models.
        """
        storage = load_settings()
        placement = choose_placement(self._settings)
        store = open_store(storage)
        forget_the_dead()
        with ExitStack() as stack:
            io = stack.enter_context(closing(BlockingIO(self._tasks)))
            self._knock_at_redis(io)
            keeper = StoreKeeper(io, store)
            keeper.begin()
            keeper.start()
            stack.callback(keeper.close)
            max_batch = self._settings.max_batch or default_max_batch(placement)
            engine, generators = self._models(stack, placement, max_batch, keeper)
            offers = [generator.entry.offer() for generator in generators.values()]
            at_a_time = images_at_a_time(placement, max_batch)
            concurrency = self._settings.concurrency or at_a_time
            lanes = self._lanes(concurrency)
            has = abilities_of(offers, [name for name, one in generators.items() if one.adapters is None], lanes)
            about, turns = _about(placement), Turns([offer.name for offer in offers], lanes)
            banks = _banks(generators)
            presence = Presence(io, self.name, offers, about, lambda: str(keeper.trouble or ""), has, banks)
            stack.callback(presence.retire)
            drain = Drain(self._settings.drain_seconds)
            guard = HangGuard(engine, self._settings.call_seconds, drain)
            duties = [guard.look, presence.beat, Lookout(io, turns, has).look]
            leases = LeaseKeeper(io, self._settings.lease_seconds, self._tasks, drain, duties)
            sweep = stack.enter_context(LaterSweep(sweeper(io, keeper.store)))
            for duty in (leases, Janitor(io, self.name, self._tasks, sweep, self._repairs)):
                duty.start()
                stack.callback(duty.close)
            images = stack.enter_context(closing(ImageThreads(at_a_time)))
            around = Surroundings(
                io=io,
                keeper=keeper,
                storage=storage,
                generators=generators,
                images=images,
                leases=leases,
                sweep=sweep,
                worker=self.name,
                lease_seconds=self._settings.lease_seconds,
                rules=self._tasks,
                preview_every=self._settings.preview_every,
                patience=self._settings.storage_patience,
                leave=drain.leave,
                own_files=OwnFiles.of(self._settings),
                places=turns.places,
                share=self._settings.bulk_share,
                has=has,
                running=turns.running,
            )
            alone = Alone(io, self.name, turns.places, has, drain)
            run, free = JobRunner(around), (lambda: keeper.trouble is None and alone.lets_in)
            app = make_app(self._tasks, list(generators), alone.door(run), free, turns)
            duties.append(lambda: alone.look(run.run, self._settings.lease_seconds, self._tasks))
            stack.callback(alone.close)
            with self._reserve(around, turns, drain, placement, concurrency, alone):
                consume(app, concurrency, presence.begin, drain)
            if drain.cause:
                raise drain.cause
        self._log.info("worker.stopped")

    def _lanes(self, concurrency: int) -> Sequence[str]:
        """A training takes a job's place for as long as it lasts: where there is only one it would stop all else."""
        lanes = self._settings.lanes
        if concurrency > 1 or TRAINING not in lanes or len(lanes) == 1:
            return lanes
        self._log.warning("lanes.no_training", hint="raise --concurrency, or start another worker with --lane training")
        return [lane for lane in lanes if lane != TRAINING]

    def _reserve(
        self,
        around: Surroundings,
        turns: Turns,
        drain: Drain,
        placement: Placement,
        concurrency: int,
        alone: Alone,
    ) -> Reserve:
        run = alone.door(JobRunner(replace(around, places=turns.urgent)))
        count = 0 if placement.memory in OFFLOAD_MODES else self._settings.urgent_places
        return Reserve(
            around.io, turns, run, drain, count=count, beside=concurrency,
            may_take=lambda: around.keeper.trouble is None and alone.lets_in,
        )  # fmt: skip

    def _knock_at_redis(self, io: BlockingIO) -> None:
        """A Redis that is away is waited for, but one that does not let us in is told of before a model is loaded."""
        try:
            io.run(ping())
        except QueueError as error:
            if not error.retryable:
                raise
            self._log.warning("queue.away", code=error.code, error=error.message)

    def _models(
        self, stack: ExitStack, placement: Placement, max_batch: int, keeper: StoreKeeper
    ) -> tuple[Engine, dict[str, Generator]]:
        """The engine and the models by name, loaded and warm; the engine's metrics are served from then on."""
        policy = _policy(max_batch, self._settings)
        engine = stack.enter_context(make_engine(placement, policy, self._settings.training_share))
        generators = Pinned(self._contents, placement, self._settings, engine).generators(self._entries)
        with WarmGuard(engine, self._settings.warm_seconds):
            self._warm(generators, placement)  # all weights first: warming takes what memory is left
        if self._settings.metrics_port:
            prompts = {name: generator.embeddings for name, generator in generators.items()}
            usable, banks = (lambda: keeper.trouble is None), _banks(generators)
            collector = EngineCollector(engine.stats, prompts, self._repairs, usable, banks)
            stack.enter_context(metrics_server(collector, self._settings.metrics_host, self._settings.metrics_port))
        return engine, generators

    def _warm(self, generators: Mapping[str, Generator], placement: Placement) -> None:
        for name, generator in generators.items():
            began = time.monotonic()
            self._log.info("model.warming", model=name, speedups=sorted(placement.speedups))
            warm_derived(generator) if generator.entry.base in generators else warm(generator)
            self._log.info("model.warmed", model=name, seconds=round(time.monotonic() - began, 2))


def _banks(generators: Mapping[str, Generator]) -> dict[str, Callable[[], BankStats]]:
    """Of each set of weights, under the name of the first model that is served of it."""
    found: dict[Adapters, str] = {}
    for name, generator in generators.items():
        if generator.adapters:
            found.setdefault(generator.adapters, name)
    return {name: adapters.stats for adapters, name in found.items()}


def _policy(max_batch: int, settings: WorkerSettings) -> Policy:
    buckets = [2**power for power in range(max_batch.bit_length())]
    return Policy(buckets, max_rows=max_batch, window=settings.batch_window, share=settings.bulk_share)


def _about(placement: Placement) -> dict[str, object]:
    return {"pid": os.getpid(), "host": platform.node(), "device": str(placement.device),
            "dtype": str(placement.dtype).removeprefix("torch."), "memory": placement.memory,
            "version": version("darkroom")}  # fmt: skip
