"""Workers that cannot start: the exit code says why, and the supervisor knows which are hopeless."""

import io
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from darkroom.cli.demo.server import LocalServer
from darkroom.storage import ObjectStore
from darkroom.tasks import TaskSettings
from darkroom.tasks.catalogue import FolderSource, ModelEntry, load_catalogue
from darkroom.worker import __main__ as program
from darkroom.worker.models.sources import verify_model
from darkroom.worker.process.logs import configure_logs
from darkroom.worker.settings import WorkerSettings

from .studio import Studio, open_studio

Start = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def small(task_settings: TaskSettings, store: ObjectStore, entry: ModelEntry, tmp_path: Path) -> Iterator[Studio]:
    """A studio of the test's own, with its own copy of the model."""
    assert isinstance(entry.source, FolderSource)
    copy = entry.model_copy(update={"source": FolderSource(path=tmp_path / "weights")})
    shutil.copytree(entry.source.path, tmp_path / "weights")
    storage = {"DARKROOM_STORAGE_URL": (tmp_path / "store").as_uri()}
    with open_studio(task_settings, store, storage, copy, tmp_path) as studio:
        yield studio


@pytest.fixture
def start(small: Studio, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Runs the worker's program in this process until it gives up; its exit code and its last words."""
    said = io.StringIO()
    monkeypatch.setattr(program, "configure_logs", lambda form, level: configure_logs("json", level, said))

    def begin(*models: str, **environment: str) -> tuple[int, dict[str, Any]]:
        for name, value in {**small.environment, **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["darkroom.worker", *models])
        code = program.main()
        return code, json.loads(said.getvalue().splitlines()[-1])

    return begin


def test_a_changed_weight_ends_worker_and_supervisor_for_good(small: Studio, tmp_path: Path) -> None:
    catalogue = load_catalogue(Path(small.environment["DARKROOM_CATALOGUE"]))
    verify_model(catalogue[small.model], WorkerSettings(models_dir=Path(small.environment["DARKROOM_MODELS_DIR"])))
    weights = tmp_path / "weights" / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with small.worker(supervised=True) as supervisor:
        assert supervisor.end() == 4
    (failed,) = supervisor.of("worker.failed")
    assert failed["code"] == "model_digest_mismatch"
    assert "vae/diffusion_pytorch_model.safetensors" in failed["error"]
    assert len(supervisor.of("worker.started")) == 1
    assert supervisor.of("worker.ready") == []


def test_names_that_are_not_in_the_catalogue(start: Start) -> None:
    code, said = start("tiny-sdxl", "none-such")
    assert (code, said["code"]) == (4, "model_unknown")
    assert "none-such" in said["error"]


def test_weights_that_are_not_there(start: Start, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "weights")
    code, said = start("tiny-sdxl")
    assert (code, said["code"]) == (4, "model_missing")


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("scheduler/scheduler_config.json", {"prediction_type": "flow_prediction"}),  # shows when it is run
        ("vae/config.json", {"scaling_factor": 0}),
    ],
)
def test_files_that_make_no_picture(start: Start, tmp_path: Path, file: str, said: dict[str, Any]) -> None:
    path = tmp_path / "weights" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))
    code, words = start("tiny-sdxl")
    assert (code, words["code"]) == (4, "model_incompatible")
    assert file in words["error"]


def test_no_model_at_all(start: Start) -> None:
    code, said = start()
    assert (code, said["error"]) == (4, "no model is named")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DARKROOM_LEASE_SECONDS", "1"),
        ("DARKROOM_CONCURRENCY", "many"),
        ("DARKROOM_REDIS_URL", "http://x"),
        ("DARKROOM_MEMORY", "little"),
        ("DARKROOM_CATALOGUE", "/none/such.json"),
        ("DARKROOM_S3_ADDRESSING", "both"),
    ],
)
def test_settings_that_are_wrong_are_named(start: Start, name: str, value: str) -> None:
    code, said = start("tiny-sdxl", **{name: value})
    assert code in (2, 4, 5)
    assert name in said["error"] + said["hint"]


def test_no_storage(start: Start) -> None:
    code, said = start("tiny-sdxl", DARKROOM_STORAGE_URL="")
    assert (code, said["code"]) == (5, "storage_not_configured")


def test_a_bucket_that_does_not_exist(start: Start, s3_endpoint: str) -> None:
    code, said = start(
        "tiny-sdxl",
        DARKROOM_STORAGE_URL="s3://not-made-yet",
        DARKROOM_S3_ENDPOINT_URL=s3_endpoint,
        DARKROOM_S3_ACCESS_KEY_ID="a",
        DARKROOM_S3_SECRET_ACCESS_KEY="s3cret-value",
    )
    assert (code, said["code"]) == (5, "bucket_missing")
    assert "s3cret-value" not in str(said)


def test_a_device_that_is_not_here(start: Start) -> None:
    code, said = start("tiny-sdxl", DARKROOM_DEVICE="cuda:99")
    assert (code, said["code"]) == (6, "device_unavailable")


def test_a_child_that_dies_is_started_again_later_and_later(small: Studio) -> None:
    with small.worker(supervised=True) as supervisor:
        for count, backoff in ((1, 1.0), (2, 2.0)):
            child = psutil.Process(supervisor.wait_for("worker.started", count=count)["pid"])
            child.kill()
            died = supervisor.wait_for("worker.died", count=count)
            assert (died["code"], died["restart_in_s"]) == (-signal.SIGKILL, backoff)
        child = psutil.Process(supervisor.wait_for("worker.started", count=3)["pid"])
        assert supervisor.terminate() == 0
        assert not child.is_running()


def test_a_redis_that_does_not_let_us_in(start: Start) -> None:
    with LocalServer() as server, redis.Redis(port=server.port) as admin:
        admin.config_set("requirepass", "s3cret")
        code, said = start("tiny-sdxl", DARKROOM_REDIS_URL=server.url.replace("redis://", "redis://:wrong-one@"))
    assert (code, said["code"]) == (3, "queue_auth_failed")
    assert "wrong-one" not in str(said)
