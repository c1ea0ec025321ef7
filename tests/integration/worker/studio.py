"""A studio: server, store and catalogue, and workers in processes of their own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis

from darkroom.storage import ObjectStore
from darkroom.tasks import Darkroom, Event, Job, JobHandle, TaskSettings
from darkroom.tasks.catalogue import ModelEntry

from .processes import PATIENCE, Process

SUPERVISED = """
import sys
from darkroom.worker.process.logs import configure_logs
from darkroom.worker.process.supervisor import Supervisor
configure_logs("json", "info")
sys.exit(Supervisor(sys.argv[1:]).run())
"""


@dataclass
class Studio:
    """What a producer sees, and what the workers are given. Leases last 2 seconds."""

    client: Darkroom
    store: ObjectStore
    model: str
    environment: dict[str, str]
    workers: list[Process] = field(default_factory=list)

    def submit(self, **fields: Any) -> JobHandle:
        """A small job: four steps at 64 x 64 unless told otherwise."""
        kind = {"kind": "img2img"} if "image" in fields else {}
        return self.client.submit({"prompt": "a red fox", "model": self.model, **kind, **fields})

    def submit_watched(self, **fields: Any) -> JobHandle:
        """One that somebody watches before it is there, as any reader of Redis may: a short job is over soon."""
        job_id = str(uuid4())
        with redis.Redis.from_url(self.environment["DARKROOM_REDIS_URL"]) as server:
            server.set(f"{self.environment['DARKROOM_REDIS_PREFIX']}watched:{job_id}", 1, ex=60)
        return self.client.submit({"prompt": "a red fox", "model": self.model, **fields}, job_id=job_id)

    def run(self, **fields: Any) -> Job:
        """A job and its end."""
        return self.submit(**fields).wait(60)

    def submit_long(self, **fields: Any) -> JobHandle:
        """A job that takes far longer than any test: it is there to be disturbed and canceled."""
        return self.submit(num_inference_steps=200, num_images=16, **fields)

    def started(self, handle: JobHandle) -> str:
        """The worker that runs the job, once it has taken its first step."""
        return next(event for event in self.until(handle, "job.progress") if event.type == "job.started").data["worker"]

    def until(self, handle: JobHandle, kind: str) -> list[Event]:
        """The job's events up to the first of this kind, live. A job that no worker looks after is given up."""
        seen: list[Event] = []
        giving_up = threading.Timer(PATIENCE, handle.cancel)
        giving_up.start()
        try:
            for event in handle.watch():
                seen.append(event)
                if event.type == kind:
                    return seen
        finally:
            giving_up.cancel()
        raise AssertionError(f"no {kind} in {seen}")

    @contextmanager
    def worker(self, *, supervised: bool = False, **environment: str) -> Iterator[Process]:
        """A worker of the model; it is up when `worker.ready` is heard."""
        arguments = ["-c", SUPERVISED, self.model] if supervised else ["-m", "darkroom.worker", self.model]
        with Process(arguments, {**self.environment, **environment}) as process:
            yield process

    def wait_for_workers(self, count: int) -> None:
        """Until so many workers say that they serve the model."""
        deadline = time.monotonic() + PATIENCE
        while self.client.models().workers.get(self.model) != count:
            assert time.monotonic() < deadline

    def everything_of(self, handle: JobHandle) -> tuple[str, list[Event], dict[str, bytes]]:
        """Record, events and objects of a job that has ended."""
        objects = {item.key: self.store.get(item.key) for item in self.store.list(f"{handle.id}/")}
        return handle.get().model_dump_json(), list(handle.watch()), objects


@contextmanager
def open_studio(
    settings: TaskSettings, store: ObjectStore, storage: dict[str, str], entry: ModelEntry, folder: Path
) -> Iterator[Studio]:
    """A studio without workers yet; `storage` are the variables that lead a worker to the store."""
    catalogue = folder / "catalogue.json"
    catalogue.write_text(f'{{"models": [{entry.model_dump_json()}]}}')
    environment = {
        "DARKROOM_REDIS_URL": settings.redis_url.get_secret_value(),
        "DARKROOM_REDIS_PREFIX": settings.redis_prefix,
        "DARKROOM_CATALOGUE": str(catalogue),
        "DARKROOM_MODELS_DIR": str(folder / "models"),
        "DARKROOM_LEASE_SECONDS": "2",
        "DARKROOM_PREVIEW_EVERY": "0.2",
        "DARKROOM_CONCURRENCY": "1",
        "DARKROOM_THREADS": "1",
        **storage,
    }
    with Darkroom(settings, storage=store) as client:
        yield Studio(client, store, entry.name, environment)
