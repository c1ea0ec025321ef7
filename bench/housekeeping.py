"""What it takes to look through everything: objects against records, and records against indexes."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from bench.table import Row
from darkroom.cli.demo.server import LocalServer
from darkroom.cli.unnamed import Search
from darkroom.storage import ObjectStore, StorageSettings, open_store
from darkroom.tasks import Darkroom, JobResult, StoredImage, TaskSettings, claims
from darkroom.tasks.claims import Claim
from darkroom.tasks.reconcile import Walk, step
from darkroom.tasks.records import get_each
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.results import no_store

JOBS, WAITING = 1_000, 20_000
SHA = "0123456789abcdef"

T = TypeVar("T")


def measure() -> list[Row]:
    """A search of `darkroom gc` beside a bare listing, and a walk of the reconciler, slice by slice."""
    with LocalServer() as server, tempfile.TemporaryDirectory() as folder:
        settings = TaskSettings(redis_url=SecretStr(server.url))
        store = open_store(StorageSettings(storage_url=Path(folder).as_uri()))
        io = BlockingIO(settings)
        with Darkroom(settings) as client:
            for outcome in client.submit_many({"prompt": "a cat", "model": "sdxl"} for _ in range(JOBS)):
                assert outcome.job
                _finish(io, store, outcome.job.id, settings)
            sum(1 for _ in client.submit_many({"prompt": "a cat", "model": "sdxl"} for _ in range(WAITING)))
        listing, objects = _timed(lambda: sum(1 for _ in store.list("")))
        search = Search(lambda ids: io.run(get_each(ids, no_store)), None, lambda _: None)
        searching, unnamed = _timed(lambda: list(search.unnamed(store)))
        slices = [1000 * seconds for seconds in _slices(io, settings)]
        io.close()
    assert not unnamed
    return [
        Row(f"objects in a folder, {objects:,} of {JOBS:,} jobs: listed", f"{listing:.2f} s"),
        Row("the same held against their records", f"{searching:.2f} s"),
        Row(f"a walk of the reconciler over {JOBS + WAITING:,} jobs", f"{sum(slices) / 1000:.1f} s"),
        Row("one slice of it: median, longest", f"{statistics.median(slices):.1f} ms, {max(slices):.0f} ms"),
    ]


def _finish(io: BlockingIO, store: ObjectStore, job_id: str, rules: TaskSettings) -> None:
    """What a worker does, without a model."""
    held = io.run(claims.claim(job_id, "hand", 30, rules))
    assert isinstance(held, Claim)
    picture, manifest = f"{job_id}/0-{SHA}.png", f"{job_id}/manifest-{SHA}.json"
    for key in (picture, manifest):
        store.put(key, b"x", content_type="image/png")
    made = StoredImage(index=0, key=picture, seed=0, width=64, height=64, sha256="a" * 64, bytes=1,
                       content_type="image/png")  # fmt: skip
    io.run(claims.image(held, made))
    assert io.run(claims.succeed(held, JobResult(manifest=manifest), [made], rules))


def _slices(io: BlockingIO, rules: TaskSettings) -> Iterator[float]:
    """Seconds of each."""
    walk = Walk()
    while not walk.ended:
        seconds, (walk, repairs) = _timed(partial(io.run, step(walk, rules.record_ttl)))
        assert not repairs
        yield seconds


def _timed(action: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    found = action()
    return time.perf_counter() - began, found
