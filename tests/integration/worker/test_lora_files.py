"""LoRAs that are not what they were when a job was submitted: it is told why it failed, and nobody else's does."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import torch

from darkroom.storage import ObjectStore
from darkroom.tasks import Job, State, TaskSettings
from darkroom.tasks.catalogue import ModelEntry
from darkroom.worker.batching.engine import Engine
from darkroom.worker.delivery.runner import JobRunner
from darkroom.worker.errors import AdapterMissing, ManifestInvalid
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import Manifest, parse_manifest
from darkroom.worker.images.replay import Replay
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings
from tests.unit.worker.adapters.stocked import stocked

from .conftest import Desk, open_desk

SMALL = {"width": 32, "height": 32}
OTHER = "b" * 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loras")


@pytest.fixture(scope="module")
def generator(entry: ModelEntry, folder: Path) -> Iterator[Generator]:
    """One that has LoRAs, none of which has been read."""
    model = load_model(entry, Placement(torch.device("cpu"), torch.float32, "full", 1), WorkerSettings())
    with Engine(1) as engine:
        yield stocked(model, engine, folder)


@pytest.fixture
def desk(task_settings: TaskSettings, generator: Generator, store: ObjectStore) -> Iterator[Desk]:
    with open_desk(task_settings, generator, store) as desk:
        yield desk


def replaced(path: Path) -> None:
    path.write_bytes(path.with_name(path.name.replace("-told", "-attention")).read_bytes())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def back(path: Path, data: bytes) -> None:
    if path.is_dir():
        path.rmdir()
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("lora", "happens", "code", "says"),
    [
        ("told", replaced, "adapter_digest_mismatch", "the file of the LoRA told"),
        ("wide", cut, "adapter_digest_mismatch", "the file of the LoRA wide"),
        ("attention", Path.unlink, "adapter_missing", "the file of the LoRA attention is not there"),
        ("convolution", a_folder, "adapter_missing", "the file of the LoRA convolution is no regular file"),
    ],
)
def test_a_file_that_is_another_by_now_fails_the_jobs_that_want_it(
    desk: Desk, folder: Path, lora: str, happens: Callable[[Path], None], code: str, says: str
) -> None:
    path = folder / f"tiny-sdxl-{lora}.safetensors"
    data = path.read_bytes()
    happens(path)
    job = desk.run(loras=[lora], num_images=2, **SMALL)
    assert job.error is not None
    assert (job.state, job.error.code, job.error.callers_fault) == (State.FAILED, code, False)
    assert job.error.message.startswith(says)
    assert str(folder) not in job.error.message
    assert desk.run(**SMALL).state is State.SUCCEEDED
    back(path, data)
    assert [dead.id for dead in desk.client.dead()] == [job.id]
    assert tried_again(desk, job).state is State.SUCCEEDED
    happens(path)
    assert desk.run(loras=[lora], **SMALL).state is State.SUCCEEDED  # it was read, and is what it was
    back(path, data)


def tried_again(desk: Desk, job: Job) -> Job:
    again = desk.client.retry(job.id)
    JobRunner(desk.around)(again.id)
    return again.get()


def test_a_worker_that_lacks_the_lora_says_so_and_another_may_run_the_job(desk: Desk, generator: Generator) -> None:
    job_id = desk.submit(loras=["told"], **SMALL)
    bare = Generator(generator.model, generator.engine)
    JobRunner(replace(desk.around, generators={"tiny-sdxl": bare}))(job_id)
    job = desk.client.get(job_id)
    assert job.error is not None
    assert (job.state, job.error.code, job.error.callers_fault) == (State.FAILED, "adapter_missing", False)
    assert job.error.message.startswith("LoRA told is not here")
    assert tried_again(desk, job).state is State.SUCCEEDED


@pytest.mark.parametrize(
    ("altered", "code", "says", "callers"),
    [
        ({"sha256": OTHER}, "adapter_missing", f"LoRA told of SHA-256 {OTHER} is not here; the file of this", False),
        ({"name": "nope"}, "adapter_missing", "LoRA nope is not here", False),
        ({"sha256": None}, "invalid_request", "loras.0.sha256: has no value: the request was not resolved", True),
    ],
)
def test_a_record_of_other_loras(
    desk: Desk,
    raw: "redis.Redis[str]",
    task_settings: TaskSettings,
    altered: dict[str, Any],
    code: str,
    says: str,
    callers: bool,
) -> None:
    job_id = desk.submit(loras=["told"], **SMALL)
    record = f"{task_settings.redis_prefix}job:{job_id}"
    request = json.loads(raw.hget(record, "request") or "")
    request["loras"][0] |= altered
    raw.hset(record, "request", json.dumps(request))
    JobRunner(desk.around)(job_id)
    job = desk.client.get(job_id)
    assert job.error is not None
    assert (job.state, job.error.code, job.error.callers_fault) == (State.FAILED, code, callers)
    assert job.error.message.startswith(says)
    if code == "adapter_missing":
        assert "start the worker again, then `darkroom dead retry` the job" in job.error.hint


@pytest.fixture
def manifest(desk: Desk) -> dict[str, Any]:
    """Of a job with two LoRAs, as JSON."""
    job = desk.run(loras=["attention:0.5", "told"], **SMALL)
    assert job.result is not None, job.error
    found: dict[str, Any] = json.loads(desk.store.get(job.result.manifest))
    return found


def read(manifest: dict[str, Any], generator: Generator) -> Manifest:
    return parse_manifest(json.dumps(manifest).encode(), {"tiny-sdxl": generator.entry})


def test_a_manifest_of_a_file_that_is_not_here_is_not_made_again(
    desk: Desk, generator: Generator, manifest: dict[str, Any]
) -> None:
    for place in (manifest["request"]["loras"], manifest["adapters"]):
        place[0]["sha256"] = OTHER
    with pytest.raises(AdapterMissing, match=f"LoRA attention of SHA-256 {OTHER} is not here"):
        Replay(read(manifest, generator), generator, desk.store.get)


def test_a_manifest_that_contradicts_itself_is_not_read(generator: Generator, manifest: dict[str, Any]) -> None:
    del manifest["adapters"][0]
    with pytest.raises(ManifestInvalid, match="the request has the LoRA 'attention', which is not among `adapters`"):
        read(manifest, generator)


def test_a_replay_tells_of_a_lora_more_and_of_another_rank(
    desk: Desk, generator: Generator, manifest: dict[str, Any]
) -> None:
    manifest["adapters"][0]["rank"] = 7
    manifest["adapters"].append({**manifest["adapters"][1], "name": "wide", "place": 2})
    again = Replay(read(manifest, generator), generator, desk.store.get)
    assert [image.equal for image in again.images()] == [True]
    places = {tuple(difference.field.split(".")[:2]) for difference in again.differences}
    assert places == {("adapters", "0"), ("adapters", "2")}
