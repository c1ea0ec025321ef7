"""A tiny model, a job runner in this process with everything real around it, and workers in processes of their own."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.storage import ObjectStore, StorageSettings, StoredObject, open_store
from darkroom.tasks import Darkroom, Job, TaskSettings, claims
from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.message import LANES
from darkroom.tasks.places import Has, Place, beside
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.adapters.own_files import OwnFiles
from darkroom.worker.batching.engine import Engine
from darkroom.worker.delivery.image_threads import ImageThreads
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.delivery.leftovers import sweeper
from darkroom.worker.delivery.runner import JobRunner, Surroundings
from darkroom.worker.delivery.storekeeper import StoreKeeper
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.process.abilities import abilities_of
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.integration.hand import Hand

from .apps import Start, starting
from .processes import Process
from .studio import Studio, open_studio

TTL = 600


@pytest.fixture(scope="session")
def entry(tiny_models: TinyModels) -> ModelEntry:
    """The catalogue entry of a tiny SDXL, called `tiny-sdxl`."""
    return tiny_models("sdxl")


@pytest.fixture(scope="session")
def generator(entry: ModelEntry) -> Iterator[Generator]:
    placement = Placement(torch.device("cpu"), torch.float32, "full", 1)
    with Engine(1) as engine:
        yield Generator(load_model(entry, placement, WorkerSettings()), engine)


class MeddledStore:
    """A store of which a test decides what happens before each put."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.before_put: Callable[[str], None] = lambda key: None

    def put(self, key: str, data: bytes | Path, *, content_type: str, metadata: Mapping[str, str] = {}) -> None:
        self.before_put(key)
        self.inner.put(key, data, content_type=content_type, metadata=metadata)

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        return self.inner.get(key, limit=limit)

    def exists(self, key: str) -> bool:
        return self.inner.exists(key)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def url(self, key: str, seconds: int) -> str:
        return self.inner.url(key, seconds)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return self.inner.list(prefix)

    def check(self, *, write: bool = True, size: int = 0) -> None:
        self.inner.check(write=write, size=size)

    def mark(self) -> str | None:
        return self.inner.mark()

    def make_mark(self, mark: str) -> None:
        self.inner.make_mark(mark)


@dataclass
class Desk:
    """A client and a runner over the same Redis and store; no Celery, no other process."""

    client: Darkroom
    io: BlockingIO
    store: MeddledStore
    around: Surroundings

    def submit(self, **fields: Any) -> str:
        """A small job's id: two steps at 64 x 64 unless told otherwise."""
        asked = {"prompt": "a red fox", "model": "tiny-sdxl", "num_inference_steps": 2, "seed": 1, **fields}
        return self.client.submit(asked).id

    def run(self, **fields: Any) -> Job:
        """Submits a job, runs it here, and reads its record."""
        job_id = self.submit(**fields)
        JobRunner(self.around)(job_id)
        return self.client.get(job_id)

    @property
    def trouble(self) -> str | None:
        """The code of what is wrong with the store."""
        found = self.around.keeper.trouble
        return found.code if found else None

    def hand(self) -> Hand:
        """Another worker's."""
        return Hand(self.io)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(StorageSettings(storage_url=(tmp_path / "store").as_uri()))


def places_of(io: BlockingIO, has: Has) -> Callable[[], list[Place]]:
    """The lanes that a worker of these models reads."""
    return lambda: [*(Place(model, lane) for lane in LANES for model in has), *io.run(beside(has))]


@contextmanager
def open_desk(settings: TaskSettings, generator: Generator, store: ObjectStore) -> Iterator[Desk]:
    """A desk on the server that the settings name."""
    entry, io, meddled = generator.model.entry, BlockingIO(settings), MeddledStore(store)
    has = abilities_of([entry.offer()])
    io.run(claims.serve("here", {}, TTL, [entry.offer()], has))
    leases = LeaseKeeper(io, 30, settings)
    keeper = StoreKeeper(io, meddled)
    keeper.start()
    around = Surroundings(
        io=io,
        keeper=keeper,
        storage=StorageSettings(),
        generators={entry.name: generator},
        images=ImageThreads(0),  # one after the other
        leases=leases,
        sweep=sweeper(io, keeper.store),
        worker="here",
        lease_seconds=30,
        rules=settings,
        patience=0,
        preview_every=0,
        leave=lambda cause: pytest.fail(f"nothing is broken here: {cause}"),
        own_files=OwnFiles.of(WorkerSettings()),
        places=places_of(io, has),
        has=has,
    )
    with Darkroom(settings, storage=store) as client:
        yield Desk(client, io, meddled, around)
    keeper.close()
    leases.close()
    io.close()


@pytest.fixture
def desk(task_settings: TaskSettings, generator: Generator, store: ObjectStore) -> Iterator[Desk]:
    with open_desk(task_settings, generator, store) as desk:
        yield desk


@pytest.fixture
def start(task_settings: TaskSettings) -> Iterator[Start]:
    """Starts apps without a model, whose task does as it is told."""
    with starting(task_settings) as start:
        yield start


@pytest.fixture(scope="session")
def studio(
    redis_server: LocalServer, entry: ModelEntry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Studio, Process]]:
    """A studio with one worker that all tests share; its objects lie in a folder."""
    folder = tmp_path_factory.mktemp("studio")
    url = (folder / "objects").as_uri()
    settings = TaskSettings(redis_url=SecretStr(redis_server.url), redis_prefix="studio:")
    store = open_store(StorageSettings(storage_url=url))
    with (
        open_studio(settings, store, {"DARKROOM_STORAGE_URL": url}, entry, folder) as studio,
        studio.worker() as worker,
    ):
        worker.wait_for("worker.ready")
        studio.wait_for_workers(1)
        yield studio, worker
