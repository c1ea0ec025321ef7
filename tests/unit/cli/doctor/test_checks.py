"""The doctor's findings, one part at a time."""

import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from darkroom.cli.demo.server import LocalServer
from darkroom.cli.doctor import checks, queue_checks
from darkroom.cli.doctor.checks import Check, guarded
from darkroom.tasks import Darkroom, QueueUnavailable, TaskSettings
from darkroom.tasks.catalogue import FolderSource, builtin_catalogue, load_catalogue
from darkroom.tasks.claims import serve
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.adapters.keeper import BankStats
from darkroom.worker.errors import DeviceUnavailable
from darkroom.worker.models.sources import verify_model
from darkroom.worker.process.presence import Presence
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.integration.hand import Hand
from tests.toys import later_release


def state(found: list[Check], words: str) -> str:
    """That of the one finding which says so."""
    (one,) = [check for check in found if words in check.message]
    assert one.state == "ok" or one.hint
    return one.state


INFO: dict[str, Any] = {"redis_version": "7.4.0", "maxmemory_policy": "noeviction", "maxmemory": 0, "aof_enabled": 1}


@pytest.mark.parametrize(
    ("info", "took", "words", "expected"),
    [
        ({}, 0.001, "redis 7.4.0 answers", "ok"),
        ({"valkey_version": "9.1.2"}, 0.001, "valkey 9.1.2 answers", "ok"),
        ({"redis_version": "6.2.1"}, 0.001, "too old", "broken"),
        ({"cluster_enabled": 1}, 0.001, "is a cluster", "broken"),
        ({}, 0.3, "answers in 300.0 ms", "warning"),
    ],
)
def test_the_server(info: dict[str, Any], took: float, words: str, expected: str) -> None:
    assert state([checks._reached({**INFO, **info}, took)], words) == expected


def test_the_doctor_does_not_advise_to_ask_the_doctor() -> None:
    def away() -> Iterator[Check]:
        raise QueueUnavailable("Redis did not answer")
        yield

    def no_device() -> Iterator[Check]:
        raise DeviceUnavailable("no device")
        yield

    (server,), (device,) = guarded("server", away), guarded("device", no_device)
    assert (server.hint, device.hint) == ("check DARKROOM_REDIS_URL and the server", "")


def test_memory_durability_and_clock() -> None:
    assert list(checks._memory(INFO)) == []
    assert state(list(checks._memory({**INFO, "maxmemory_policy": "volatile-ttl"})), "volatile-ttl") == "warning"
    full = {**INFO, "maxmemory": 100, "used_memory": 95}
    assert state(list(checks._memory(full)), "over 90%") == "warning"
    assert list(checks._durability(INFO)) == []
    assert state(list(checks._durability({**INFO, "aof_enabled": 0})), "append-only") == "warning"
    assert checks._clock(0.2).state == "ok"
    assert state([checks._clock(-9.0)], "-9.0 s") == "warning"


def test_a_real_server_that_evicts(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalServer("--maxmemory-policy", "allkeys-lru") as server:
        monkeypatch.setenv("DARKROOM_REDIS_URL", server.url)
        found = [*checks.server(), *checks.workers()]
    assert state(found, "answers in") == "ok"
    assert state(found, "maxmemory-policy is allkeys-lru") == "warning"
    assert state(found, "none is up") == "warning"


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """The one that the settings name."""
    with LocalServer() as server:
        monkeypatch.setenv("DARKROOM_REDIS_URL", server.url)
        yield server


def test_jobs_are_late_by_the_servers_clock(own_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A healthy job, seen from a machine whose clock is two minutes ahead; and one that is lost, from one behind."""
    io = BlockingIO(TaskSettings())
    with Darkroom() as client:
        healthy, lost = (client.submit({"prompt": "a cat", "model": "sdxl"}).id for _ in range(2))
        Hand(io).claim(healthy)
        ahead, behind = time.time() + 120, time.time() - 120
        monkeypatch.setattr(time, "time", lambda: ahead)
        assert not any("lost their worker" in check.message for check in queue_checks.jobs())
        Hand(io).claim(lost, lease=-30)
        monkeypatch.setattr(time, "time", lambda: behind)
        assert state(list(queue_checks.jobs()), "1 have lost their worker") == "warning"
    io.close()


def test_a_worker_that_waits_for_its_store_is_told_of(own_server: LocalServer) -> None:
    io, offer = BlockingIO(TaskSettings()), builtin_catalogue()["sdxl"].offer()
    Presence(io, "one", [offer], {}, lambda: "the folder /srv is not the store that Redis knows").begin()
    Presence(io, "two", [offer], {}).begin()
    found = [check.message for check in checks.workers() if "takes no jobs" in check.message]
    assert found == ["one takes no jobs: the folder /srv is not the store that Redis knows"]
    io.close()


def test_what_workers_have_and_what_jobs_lack_is_told(own_server: LocalServer) -> None:
    io, offer = BlockingIO(TaskSettings()), builtin_catalogue()["sdxl"].offer()
    with later_release(), Darkroom() as client:
        for fields in ({"glow": 1}, {"tags": ["a"]}, {"tags": ["a"], "lane": "bulk"}, {}):
            client.submit({"prompt": "a cat", "model": "sdxl", **fields})
    Presence(io, "one", [offer], {"device": "cpu"}, has={"sdxl": ["glow", "kind:toy"]}).begin()
    Presence(io, "two", [offer], {"device": "cpu"}).begin()
    io.close()
    serving = [check.message for check in checks.workers() if "serves" in check.message]
    assert serving == ["one serves sdxl (glow, kind:toy) on cpu", "two serves sdxl on cpu"]
    lacking = [check.message for check in queue_checks.jobs() if "no worker" in check.message]
    assert lacking == [
        f"1 wait in sdxl:{lane} that need tags, and no worker of sdxl has that" for lane in ("bulk", "interactive")
    ]


def test_what_lies_in_the_banks_is_told(own_server: LocalServer) -> None:
    io, offer = BlockingIO(TaskSettings()), builtin_catalogue()["sdxl"].offer()
    bank = BankStats(1, 0, 0, {"a": (1, 2), "b": (3,)}, 16, 2_000_000, {"a": "pen", "b": "ink"})
    Presence(io, "one", [offer], {"device": "cpu"}, banks={"sdxl": lambda: bank}).begin()
    io.run(serve("two", {"banks": {"sdxl": {"loras": 7}}}, 15, [offer]))
    io.close()
    told = [check.message for check in checks.workers() if "bank" in check.message]
    assert told == ["one has in its bank for sdxl: 2 LoRAs (ink, pen) on 3 of 16 pages, 2 MB"]


def test_names_that_are_no_text_are_no_trouble(own_server: LocalServer) -> None:
    with redis.Redis(port=own_server.port) as raw:
        raw.sadd("darkroom:lanes", b"\xff\xfe:bulk")
        raw.hset("darkroom:models", b"\xff", b"{}")
        raw.zadd("darkroom:serving:sdxl", {b"\xff": 1e15})
        raw.hset("darkroom:models", b"sdxl", b"{}")
    assert state(list(queue_checks.jobs()), "0 wait, 0 run") == "ok"
    assert state(list(checks.workers()), "none is up") == "warning"


def test_keys_of_another_type_and_records_that_cannot_be_read_are_told_of(own_server: LocalServer) -> None:
    with redis.Redis(port=own_server.port) as raw:
        raw.zadd("darkroom:unreadable", {"one": 1})
        raw.sadd("darkroom:lanes", "sdxl:bulk")
        for name in ("queue:sdxl:bulk", "turn:sdxl:bulk", "tenants"):
            raw.set(f"darkroom:{name}", "x")
        strange = [check.message for check in queue_checks.jobs() if check.state == "broken"]
        raw.delete("darkroom:tenants")
        for name in ("leases", "lanes"):
            raw.set(f"darkroom:{name}", "x")
        found = list(queue_checks.jobs())
    assert strange == [
        "the key tenants is a string, not a hash", "the key queue:sdxl:bulk is a string, not a list",
        "the key turn:sdxl:bulk is a string, not a zset"]  # fmt: skip
    assert state(found, "1 have records that cannot be read: one") == "warning"
    assert [check.message for check in found if check.state == "broken"] == [
        "the key leases is a string, not a zset", "the key lanes is a string, not a set"]  # fmt: skip


def test_a_part_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_REDIS_URL", "redis://127.0.0.1:1")
    (found,) = guarded("server", checks.server)
    assert (found.part, found.state) == ("server", "broken")
    assert "DARKROOM_REDIS_URL" in found.hint


def test_storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert state(list(checks.storage()), "none is configured") == "warning"
    monkeypatch.setenv("DARKROOM_STORAGE_URL", (tmp_path / "objects").as_uri())
    assert state(list(checks.storage()), "can be listed and written to") == "ok"


def test_a_store_that_redis_does_not_know_yet(
    own_server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of an installation of before, with its disk not mounted: records name pictures, and none lies there."""
    monkeypatch.setenv("DARKROOM_STORAGE_URL", (tmp_path / "objects").as_uri())
    io = BlockingIO(TaskSettings())
    with Darkroom() as client:
        job_id = client.submit({"prompt": "a cat", "model": "sdxl"}).id
        Hand(io).run(job_id)
        (key,) = [image.key for image in client.get(job_id).images]
    io.close()
    assert state(list(guarded("storage", checks.storage)), "is not the store of the jobs in Redis") == "broken"
    (tmp_path / "objects" / key).parent.mkdir(parents=True)
    (tmp_path / "objects" / key).write_bytes(b"")
    assert state(list(guarded("storage", checks.storage)), "can be listed and written to") == "ok"


def test_a_store_without_room_for_a_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DARKROOM_STORAGE_URL", (tmp_path / "objects").as_uri())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        found = list(guarded("storage", checks.storage))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert state(found, "cannot use") == "broken"
    assert list((tmp_path / "objects").iterdir()) == []


@pytest.fixture
def weights(tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pinned model of the operator's own, to be spoilt."""
    source = tiny_models("sd").source
    assert isinstance(source, FolderSource)
    folder = tmp_path / "weights"
    for path in source.path.rglob("*"):
        if path.is_file():
            copy = folder / path.relative_to(source.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    entry = tiny_models("sd").model_copy(update={"name": "own", "source": FolderSource(path=folder)})
    (tmp_path / "catalogue.json").write_text(json.dumps({"models": [entry.model_dump(mode="json")]}))
    monkeypatch.setenv("DARKROOM_CATALOGUE", str(tmp_path / "catalogue.json"))
    monkeypatch.setenv("DARKROOM_MODELS_DIR", str(tmp_path / "models"))
    verify_model(load_catalogue(tmp_path / "catalogue.json")["own"], WorkerSettings())
    return folder


def found_models(*, digests: bool) -> list[Check]:
    return list(guarded("models", lambda: checks.models(digests=digests)))


def test_a_model_that_is_whole(weights: Path) -> None:
    found = found_models(digests=True)
    assert state(found, "own is here (local, ") == "ok"
    assert state(found, "own: every digest is the pinned one") == "ok"


def test_a_model_with_a_changed_file(weights: Path) -> None:
    unet = next((weights / "unet").glob("*.safetensors"))
    data = bytearray(unet.read_bytes())
    data[-1] ^= 1
    unet.write_bytes(data)
    assert state(found_models(digests=False), "own is here") == "ok"
    assert state(found_models(digests=True), "changed since") == "broken"


def test_a_model_with_a_truncated_file_or_without_its_folder(weights: Path) -> None:
    unet = next((weights / "unet").glob("*.safetensors"))
    unet.write_bytes(unet.read_bytes()[:-1])
    assert state(found_models(digests=False), "is missing or has another size") == "broken"
    weights.rename(weights.with_name("elsewhere"))
    assert state(found_models(digests=False), str(weights)) == "broken"
