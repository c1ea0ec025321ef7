"""LoRAs of a tenant's own, from the store to the picture; and all that may have happened to them since the submit."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import redis
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from darkroom.storage import ObjectStore
from darkroom.storage.errors import StorageUnavailable
from darkroom.tasks import InvalidRequest, Job, State, TaskSettings, own_versions
from darkroom.tasks.adapters import LoraEntry, OwnLora
from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.needs import lean
from darkroom.tasks.own_loras import key_of
from darkroom.tasks.sources import WeightsFileSource
from darkroom.tasks.validate import resolve
from darkroom.worker.adapters.own_files import OwnFiles
from darkroom.worker.batching.engine import Engine
from darkroom.worker.delivery.runner import JobRunner
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import parse_manifest
from darkroom.worker.images.own import own_at_hand
from darkroom.worker.images.replay import Replay
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.process.abilities import abilities_of
from darkroom.worker.settings import WorkerSettings
from tests.loras import small_lora
from tests.unit.worker.adapters.writers import train, write_kohya

from .conftest import Desk, MeddledStore, open_desk

SMALL = {"width": 32, "height": 32, "tenant": "alice"}


@pytest.fixture(scope="module")
def model(entry: ModelEntry) -> LoadedModel:
    return load_model(entry, Placement(torch.device("cpu"), torch.float32, "full", 1), WorkerSettings())


@pytest.fixture(scope="module")
def generator(model: LoadedModel) -> Iterator[Generator]:
    with Engine(1) as engine:
        yield Generator(model, engine)


@pytest.fixture(scope="module")
def told(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A LoRA that changes denoiser and text encoders."""
    path = tmp_path_factory.mktemp("told") / "told.safetensors"
    write_kohya(path, model, train(model, only=lambda _, path: "attn" in path, ranks=(8,), seed=2), original=False)
    return path.read_bytes()


@dataclass
class Shop:
    """A desk, and tenants who bring LoRAs of their own."""

    desk: Desk
    files: Path

    def add(self, data: bytes, name: str = "cat", tenant: str = "alice", **more: Any) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        facts = {"rank": 8, "bytes": len(data), "family": "sdxl", "made": datetime.now(UTC), "text": True, **more}
        lora = OwnLora.model_validate({"name": name, "sha256": sha256, **facts})
        own_versions.add(lambda make: self.desk.io.run(make()), self.desk.store, tenant, lora, data, overwrite=True)
        return sha256

    def run(self, *loras: Any, **fields: Any) -> Job:
        return self.finished(self.desk.submit(**{**SMALL, "loras": list(loras), **fields}))

    def finished(self, job_id: str) -> Job:
        JobRunner(self.desk.around)(job_id)
        return self.desk.client.get(job_id)


@pytest.fixture
def shop(task_settings: TaskSettings, generator: Generator, store: ObjectStore, tmp_path: Path) -> Iterator[Shop]:
    with open_desk(task_settings, generator, store) as desk:
        desk.around = replace(desk.around, own_files=OwnFiles(tmp_path / "own"))
        yield Shop(desk, tmp_path / "own")


def small(tmp_path: Path, seed: int = 0, rank: int = 4) -> bytes:
    return small_lora(tmp_path / f"{seed}.safetensors", rank, seed).read_bytes()


def pixels(job: Job) -> bytes:
    assert job.state is State.SUCCEEDED, job.error
    return job.images[0].read()


def test_a_picture_is_that_of_the_catalogues_lora_of_the_same_file(shop: Shop, told: bytes, model: LoadedModel) -> None:
    sha256 = shop.add(told)
    job, plain = shop.run("cat:0.7"), shop.run()
    assert pixels(job) != pixels(plain)
    assert job.result
    manifest = json.loads(shop.desk.store.get(job.result.manifest))
    assert [(one["name"], one["sha256"], one["scale"]) for one in manifest["adapters"]] == [("cat", sha256, 0.7)]
    assert manifest["request"]["loras"] == [{"name": "cat", "scale": 0.7, "sha256": sha256, "own": True}]

    path = shop.files / f"{sha256}.safetensors"
    with Engine(1) as engine:
        other = Generator(model, engine)
        assert other.adapters
        entry = LoraEntry(name="pen", families=["sdxl"], source=WeightsFileSource(path=path))
        other.adapters.library.add(entry, path, sha256)
        offering = model.entry.model_copy(update={"loras": other.adapters.library.offers})
        stocked = Generator(replace(model, entry=offering), engine, other.adapters)
        asked = {**lean(job.request), "loras": ["pen:0.7"]}
        prepared = stocked.prepare(resolve(asked, {"tiny-sdxl": stocked.entry}, lambda: None).filled)
        again = stocked.generate(prepared, 1, {}, lambda *_: None).image
    assert again
    assert again.tobytes() == _shown(job).tobytes()


def _shown(job: Job) -> Image.Image:
    return Image.open(BytesIO(pixels(job))).convert("RGB")


def test_names_of_two_tenants_do_not_collide(shop: Shop, tmp_path: Path) -> None:
    shop.add(small(tmp_path, 1))
    shop.add(small(tmp_path, 2), tenant="bob")
    hers, his = shop.run("cat"), shop.run("cat", tenant="bob")
    assert pixels(hers) != pixels(his)
    assert pixels(shop.run("cat")) == pixels(hers)
    with pytest.raises(InvalidRequest, match="have no LoRA 'cat'"):
        shop.run("cat", tenant="carol")


def test_a_job_keeps_the_version_that_it_was_submitted_with(shop: Shop, tmp_path: Path) -> None:
    old, new = small(tmp_path, 1), small(tmp_path, 2)
    shop.add(old)
    first = shop.run("cat")
    waiting = shop.desk.submit(**SMALL, loras=["cat"])
    shop.add(new)
    assert pixels(shop.finished(waiting)) == pixels(first)
    assert pixels(shop.run("cat")) != pixels(first)


def deleted(shop: Shop) -> None:
    shop.desk.client.delete_lora("cat", tenant="alice")


def changed(shop: Shop) -> None:
    key = next(item.key for item in shop.desk.store.list("loras/") if item.key.endswith(".safetensors"))
    shop.desk.store.put(key, b"another", content_type="application/octet-stream")


@pytest.mark.parametrize(
    ("happens", "code", "says"),
    [
        (deleted, "adapter_missing", "is not in the store"),
        (changed, "adapter_digest_mismatch", "the tenant's LoRA cat: the file in the store has the SHA-256"),
    ],
)
def test_what_happened_to_the_file_since_is_the_callers_to_mend(
    shop: Shop, tmp_path: Path, happens: Callable[[Shop], None], code: str, says: str
) -> None:
    shop.add(small(tmp_path))
    waiting = shop.desk.submit(**SMALL, loras=["cat"])
    happens(shop)
    job = shop.finished(waiting)
    assert job.error is not None
    assert (job.state, job.error.code, job.error.callers_fault) == (State.FAILED, code, True)
    assert says in job.error.message
    assert str(tmp_path) not in job.error.message
    assert list(shop.desk.client.dead()) == []
    assert pixels(shop.run())


def test_a_file_that_was_deleted_is_not_used_though_it_lies_here(shop: Shop, tmp_path: Path) -> None:
    shop.add(small(tmp_path))
    waiting = [shop.desk.submit(**SMALL, loras=["cat"]) for _ in range(2)]
    assert pixels(shop.finished(waiting[0]))
    deleted(shop)
    job = shop.finished(waiting[1])
    assert job.error
    assert job.error.code == "adapter_missing"


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"no LoRA at all", "adapter_corrupt", "its file"),
        (b"\x80\x04\x95pickle...", "adapter_unsafe", "its file"),
    ],
)
def test_a_file_that_is_none(shop: Shop, data: bytes, code: str, says: str) -> None:
    shop.add(data)
    job = shop.run("cat")
    assert job.error is not None
    assert (job.error.code, job.error.callers_fault) == (code, True)
    assert job.error.message.startswith(f"the tenant's LoRA cat: {says}")


def test_a_file_for_another_architecture(shop: Shop, tmp_path: Path, entry: ModelEntry) -> None:
    data = small(tmp_path)
    shop.add(data.replace(b"attn1_to_q", b"attn9_to_q"))
    job = shop.run("cat")
    assert job.error is not None
    assert (job.error.code, job.error.callers_fault) == ("adapter_incompatible", True)
    assert "layers that this model does not have" in job.error.message


def test_numbers_that_are_none(shop: Shop, tmp_path: Path) -> None:
    path = small_lora(tmp_path / "nan.safetensors")
    tensors = load_file(path)
    save_file({name: torch.full_like(tensor, torch.nan) for name, tensor in tensors.items()}, path)
    shop.add(path.read_bytes())
    job = shop.run("cat")
    assert job.error is not None
    assert (job.error.code, job.error.callers_fault) == ("adapter_corrupt", True)
    assert job.error.message.startswith("the file of the LoRA cat: ")


def test_one_that_was_changed_on_the_workers_disk_is_fetched_anew(
    shop: Shop, tmp_path: Path, generator: Generator
) -> None:
    sha256 = shop.add(small(tmp_path, 7))
    shop.files.mkdir()
    spoilt = shop.files / f"{sha256}.safetensors"
    spoilt.write_bytes(small(tmp_path, 8))
    job = shop.run("cat")
    assert job.error is not None
    assert (job.error.code, job.error.callers_fault) == ("adapter_digest_mismatch", False)
    assert pixels(shop.run("cat"))
    assert generator.adapters
    assert generator.adapters.library.names[sha256] == f"own {sha256[:8]}"
    assert generator.adapters.library.offers == []


def test_a_rank_that_was_not_as_said_is_refused_when_the_file_is_seen(shop: Shop, tmp_path: Path) -> None:
    shop.add(small(tmp_path, 1, rank=100), "one")
    shop.add(small(tmp_path, 2, rank=100), "two")
    job = shop.run("one", "two")
    assert job.error is not None
    assert (job.error.code, job.error.callers_fault) == ("invalid_request", True)
    assert "(one 100, two 100)" in job.error.message


def test_a_disk_without_room_is_not_the_callers_and_another_worker_may_have_some(shop: Shop, tmp_path: Path) -> None:
    shop.add(small(tmp_path))
    shop.files.touch()
    waiting = shop.desk.submit(**SMALL, loras=["cat"])
    job = shop.finished(waiting)
    assert job.state is State.QUEUED
    assert [attempt.error.code for attempt in job.attempts if attempt.error] == ["adapter_not_kept"]


class Away(MeddledStore):
    """A store that does not answer when LoRAs are asked for, a few times."""

    def __init__(self, inner: ObjectStore, times: int) -> None:
        super().__init__(inner)
        self.left = times

    def _ask(self, key: str) -> None:
        if key.startswith("loras/") and self.left:
            self.left -= 1
            raise StorageUnavailable("no answer")

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        self._ask(key)
        return super().get(key, limit=limit)

    def exists(self, key: str) -> bool:
        self._ask(key)
        return super().exists(key)


def test_a_store_that_is_away_is_waited_for(shop: Shop, tmp_path: Path) -> None:
    shop.add(small(tmp_path))
    away = shop.desk.store.inner = Away(shop.desk.store.inner, 2)
    shop.desk.around = replace(shop.desk.around, patience=30)
    assert pixels(shop.run("cat"))
    assert away.left == 0


def test_a_replay_fetches_it_by_its_digest(shop: Shop, generator: Generator, told: bytes, tmp_path: Path) -> None:
    shop.add(told)
    job = shop.run("cat")
    shop.add(small(tmp_path))  # by the name it would be another one
    assert job.result
    manifest = parse_manifest(shop.desk.store.get(job.result.manifest), {"tiny-sdxl": generator.entry})
    with own_at_hand(manifest.request, generator, OwnFiles(tmp_path / "elsewhere"), shop.desk.store):
        replay = Replay(manifest, generator, shop.desk.store.get)
        assert [image.equal for image in replay.images()] == [True]
        assert replay.differences == []
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [
        f"{hashlib.sha256(told).hexdigest()}.safetensors"
    ]


def test_another_tenants_file_cannot_be_had_by_a_record_that_was_written_by_hand(
    shop: Shop, tmp_path: Path, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    sha256 = shop.add(small(tmp_path))
    shop.add(small(tmp_path, 2), tenant="bob")
    job_id = shop.desk.submit(**{**SMALL, "tenant": "bob"}, loras=["cat"])
    record = f"{task_settings.redis_prefix}job:{job_id}"
    request = json.loads(raw.hget(record, "request") or "")
    request["loras"][0]["sha256"] = sha256
    raw.hset(record, "request", json.dumps(request))
    job = shop.finished(job_id)
    assert job.error
    assert job.error.code == "adapter_missing"
    assert key_of("alice", "cat", sha256) in [item.key for item in shop.desk.store.list("loras/")]


def test_a_model_that_takes_no_loras_is_given_no_such_job(generator: Generator) -> None:
    offer = generator.entry.offer()
    assert "lora:own" in abilities_of([offer])[offer.name]
    assert "lora:own" not in abilities_of([offer], [offer.name])[offer.name]
