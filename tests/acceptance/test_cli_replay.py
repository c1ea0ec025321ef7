"""`darkroom replay`: equal is what comes out as recorded and is stored as recorded."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
from PIL import Image

from darkroom.cli.replay.recorded import disagreements, find
from darkroom.tasks.catalogue import load_catalogue
from darkroom.worker.batching.engine import Engine
from darkroom.worker.images.differences import Difference
from darkroom.worker.images.manifest import parse_manifest
from darkroom.worker.models.digests import hash_files
from darkroom.worker.models.lockfile import LockedModel, pin
from tests.acceptance.conftest import Call, Installation
from tests.loras import small_lora


@pytest.fixture(scope="module")
def job(darkroom: Installation) -> dict[str, Any]:
    """A job of two pictures that succeeded."""
    found: dict[str, Any] = darkroom.command("submit", "a cat", "-n", "2", "--wait", "--json").json
    return found


@pytest.fixture
def spoilt(darkroom: Installation, job: dict[str, Any], tmp_path: Path) -> Path:
    """The job's objects in a copy of the store, to be tampered with."""
    shutil.copytree(darkroom.objects / job["id"], tmp_path / "spoilt" / job["id"])
    shutil.copy(darkroom.objects / ".darkroom-store", tmp_path / "spoilt")
    return tmp_path / "spoilt"


def test_replay_by_key_is_equal_bit_for_bit(call: Call, job: dict[str, Any], tmp_path: Path) -> None:
    told = call("replay", job["result"]["manifest"], "--save", tmp_path / "again", "--json")
    assert told.code == 0, told.err
    assert (told.json["bit_equal"], told.json["differences"]) == (True, [])
    assert [image["max_abs"] for image in told.json["images"]] == [0, 0]
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["0.png", "1.png"]


def test_replay_by_file_finds_the_pictures_beside_it(call: Call, job: dict[str, Any], darkroom: Installation) -> None:
    told = call("--storage-url", "", "replay", darkroom.objects / job["result"]["manifest"])
    assert told.code == 0, told.err
    assert told.out.count("equal, bit for bit") == 2


def test_replay_names_what_is_not_as_recorded(call: Call, job: dict[str, Any], darkroom: Installation) -> None:
    told = call("replay", job["result"]["manifest"], "--dtype", "bfloat16", "--json")
    assert told.code == 1
    assert {"field": "dtype", "recorded": "float32", "now": "bfloat16"} in told.json["differences"]
    assert all(image["max_abs"] > 0 for image in told.json["images"])
    shown = call("replay", job["result"]["manifest"], "--dtype", "bfloat16").out
    assert "different by " in shown
    assert "NOT AS RECORDED" in shown


def test_replay_of_a_lora_that_was_replaced_is_one_error(
    call: Call, job: dict[str, Any], darkroom: Installation, tmp_path: Path
) -> None:
    """With both digests; other adapters of the catalogue, which cannot be used either, are not spoken of."""
    manifest = json.loads((darkroom.objects / job["result"]["manifest"]).read_bytes())
    pen = small_lora(tmp_path / "pen.safetensors")
    then, now = hash_files({"pen": pen})["pen"], hash_files({"pen": small_lora(pen, seed=1)})["pen"]
    (tmp_path / "broken.safetensors").write_bytes(b"")
    catalogue = json.loads((darkroom.folder / "catalogue.json").read_text())
    catalogue["loras"] = [
        {"name": name, "family": "sdxl", "source": {"type": "file", "path": f"{name}.safetensors"}}
        for name in ("broken", "pen")
    ]
    (tmp_path / "catalogue.json").write_text(json.dumps(catalogue))
    pin(tmp_path / "models", "loras/pen", LockedModel(source=str(pen), files={pen.name: then}))
    lora = {"name": "pen", "scale": 1.0, "sha256": then.sha256}
    manifest["request"]["loras"] = [lora]
    manifest["adapters"] = [{**lora, "model": "tiny-sdxl", "rank": 4, "place": 0}]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    places = ["--catalogue", tmp_path / "catalogue.json", "--models-dir", tmp_path / "models"]
    told = call("replay", tmp_path / "manifest.json", *places, "--json")
    assert (told.code, told.error["code"]) == (4, "adapter_digest_mismatch")
    assert then.sha256 in told.error["message"]
    assert now.sha256 in told.error["message"]
    assert len(told.lines) == 1
    assert told.err == ""


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [("{", 2, "manifest_invalid"), ('{"version": 1}', 2, "manifest_invalid"), (None, 5, "object_not_found")],
)
def test_replay_of_no_manifest(call: Call, tmp_path: Path, content: str | None, code: int, named: str) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    told = call("replay", tmp_path / "manifest.json" if content else "no/manifest.json", "--json")
    assert (told.code, told.error["code"]) == (code, named)


def test_a_job_without_pictures_has_no_manifest(call: Call, darkroom: Installation) -> None:
    waiting = call("submit", "a cat", "--model", "sdxl").out.strip()
    assert (call("replay", waiting, "--json").error["code"], call("replay", waiting).code) == ("job_not_finished", 7)
    call("cancel", waiting)
    assert (call("replay", waiting, "--json").error["code"], call("replay", waiting).code) == ("job_failed", 8)
    assert call("replay", "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89", "--json").code == 7


def test_a_store_that_was_tampered_with_is_not_equal(call: Call, job: dict[str, Any], spoilt: Path) -> None:
    first, second = (spoilt / image["key"] for image in job["images"])
    with Image.open(first) as image:
        image.load()
        image.paste("red", (0, 0, 9, 9))
        image.save(first)
    second.unlink()
    told = call("--storage-url", spoilt.as_uri(), "replay", job["result"]["manifest"], "--json")
    assert (told.code, told.json["bit_equal"]) == (1, False)
    assert [(image["equal"], image["bit_equal"]) for image in told.json["images"]] == [(False, True)] * 2
    assert told.json["images"][0]["max_abs"] > 50
    faults = {fault["field"]: fault["now"] for fault in told.json["faults"]}
    assert faults["images.0.sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert faults["images.1.key"] == "object_not_found"
    shown = call("--storage-url", spoilt.as_uri(), "replay", job["id"])
    assert shown.code == 1
    assert all(words in shown.out for words in (*faults, "FAULT", "every recorded circumstance is as it was"))


def test_of_a_job_nothing_is_missing_in_a_store_that_is_away(call: Call, job: dict[str, Any], tmp_path: Path) -> None:
    told = call("--storage-url", (tmp_path / "unmounted").as_uri(), "replay", job["id"], "--json")
    assert (told.code, told.error["code"]) == (5, "storage_away")


def faults_of(given: str, installation: Installation) -> list[Difference]:
    found = find(given)
    return disagreements(found, parse_manifest(found.data, load_catalogue(installation.folder / "catalogue.json")))


def test_a_manifest_that_is_not_the_one_of_its_name_is_named(
    call: Call, job: dict[str, Any], spoilt: Path, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = job["result"]["manifest"]
    assert faults_of(key, installation) == faults_of(str(spoilt / key), installation) == []
    shutil.copy(spoilt / key, spoilt / "copy.json")
    assert faults_of(str(spoilt / "copy.json"), installation) == []
    (spoilt / key).write_text(json.dumps(json.loads((spoilt / key).read_text()) | {"times": {}}))
    digest = hashlib.sha256((spoilt / key).read_bytes()).hexdigest()[:16]
    name = f"manifest-{digest}.json"
    assert faults_of(str(spoilt / key), installation) == [Difference("manifest", Path(key).name, name)]
    monkeypatch.setenv("DARKROOM_STORAGE_URL", spoilt.as_uri())
    assert faults_of(job["id"], installation) == [Difference("manifest", key, f"{job['id']}/{name}")]


def test_a_manifest_under_another_jobs_key_is_named(
    call: Call, job: dict[str, Any], spoilt: Path, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other = job["result"]["manifest"], f"another-job/{Path(job['result']['manifest']).name}"
    (spoilt / "another-job").mkdir()
    shutil.copy(spoilt / key, spoilt / other)
    monkeypatch.setenv("DARKROOM_STORAGE_URL", spoilt.as_uri())
    assert faults_of(other, installation) == [Difference("manifest", other, key)]


def test_a_record_that_says_otherwise_is_named(call: Call, job: dict[str, Any], installation: Installation) -> None:
    key = f"darkroom:job:{job['id']}"
    with redis.Redis.from_url(installation.redis_url, decode_responses=True) as client:
        before = str(client.hget(key, "image/1"))
        client.hset(key, "image/1", json.dumps(json.loads(before) | {"sha256": "0" * 64}))
        found = faults_of(job["id"], installation)
        client.hset(key, "image/1", before)
    assert found == [Difference("record.images.1.sha256", job["images"][1]["sha256"], "0" * 64)]


@pytest.mark.parametrize("change", ["key", "missing", "twice"])
def test_a_manifest_that_is_not_whole_is_refused(call: Call, job: dict[str, Any], spoilt: Path, change: str) -> None:
    file = spoilt / job["result"]["manifest"]
    manifest = json.loads(file.read_text())
    match change:
        case "key":
            manifest["images"][0]["key"] = f"another-job/0-{manifest['images'][0]['sha256'][:16]}.png"
        case "missing":
            del manifest["images"][1]
        case "twice":
            manifest["images"][1] = manifest["images"][0]
    file.write_text(json.dumps(manifest))
    told = call("--storage-url", spoilt.as_uri(), "replay", job["result"]["manifest"], "--json")
    assert (told.code, told.error["code"]) == (2, "manifest_invalid")


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which the engine has something to log."""
    call_model = Engine.__enter__

    def enter(engine: Engine) -> Engine:
        structlog.get_logger().info("batch.cores_shared")
        structlog.get_logger().warning("batch.no_graph")
        return call_model(engine)

    monkeypatch.setattr(Engine, "__enter__", enter)


def test_replay_of_a_job_is_json_alone_whatever_is_logged(call: Call, job: dict[str, Any], busy: None) -> None:
    told = call("replay", job["id"].upper(), "--json")
    assert (told.code, len(told.lines)) == (0, 1)
    assert (told.json["job_id"], told.json["faults"]) == (job["id"], [])
    assert "batch.no_graph" in told.err
    assert "batch.cores_shared" not in told.err


def test_a_file_that_is_not_there_is_told_of_as_a_file_too(call: Call, installation: Installation) -> None:
    told = call("replay", "nothing.json", "--json")
    assert (told.code, told.error["code"]) == (5, "object_not_found")
    assert told.error["message"].startswith("nothing.json: no such file here, and nothing is stored under")
