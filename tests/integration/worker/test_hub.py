"""Pulling with the real hub library, over HTTP from a server that answers as the hub does."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from darkroom.cli.app import run
from darkroom.tasks.catalogue import FolderSource, HubSource, ModelEntry
from darkroom.worker.errors import ModelMissing
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.lockfile import read_lock
from darkroom.worker.models.pull import pull
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.loras import small_lora

COMMIT = "c0ffee" + "0" * 34


class HubServer(ThreadingHTTPServer):
    """Serves the files of `folder` as `some/model`; `refusal` is a status and the hub's own error code."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.refusal = folder, (0, "")
        self.downloads: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def entries(self) -> list[dict[str, Any]]:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [_entry(str(path.relative_to(self.folder)), path.read_bytes()) for path in paths]


def _entry(name: str, data: bytes) -> dict[str, Any]:
    found = {"type": "file", "path": name, "rfilename": name, "size": len(data), "oid": "0" * 40, "blobId": "0" * 40}
    if name.endswith(".safetensors"):
        digest = hashlib.sha256(data).hexdigest()
        found["lfs"] = {"sha256": digest, "oid": digest, "size": len(data), "pointerSize": 134}
    return found


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        status, code = self.server.refusal
        path = self.path.partition("?")[0]
        if status:
            self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "no"})
        elif path.startswith(f"/some/model/resolve/{COMMIT}/"):
            self._file(path.partition(COMMIT + "/")[2])
        elif path in [f"/api/models/some/model/revision/{revision}" for revision in ("main", COMMIT)]:
            self._json({"id": "some/model", "sha": COMMIT, "siblings": self.server.entries()})
        elif path == f"/api/models/some/model/tree/{COMMIT}":
            self._json(self.server.entries())
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        data = (self.server.folder / name).read_bytes()
        if self.command == "GET":
            self.server.downloads.append(name)
        tag = hashlib.sha256(data).hexdigest()
        self._answer(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def hub(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    source = tiny_models("sd").source
    assert isinstance(source, FolderSource)
    server = HubServer(source.path)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def entry(tiny_models: TinyModels) -> ModelEntry:
    return tiny_models("sd").model_copy(update={"source": HubSource(repo="some/model", variant="fp16")})


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerSettings:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    return WorkerSettings(models_dir=tmp_path / "models")


def test_a_model_is_pulled_pinned_and_loaded(hub: HubServer, entry: ModelEntry, settings: WorkerSettings) -> None:
    told: list[tuple[int, int]] = []
    locked = pull(entry, settings, progress=lambda done, total: told.append((done, total)))
    assert locked.revision == COMMIT
    assert set(hub.downloads) == set(locked.files)
    size = sum(file.bytes for file in locked.files.values())
    assert told.count((size, size)) >= 2  # fetched, then verified
    model = load_model(entry, Placement(torch.device("cpu"), torch.float32, "full", 1), settings)
    assert model.revision == COMMIT


def test_the_command_pulls_what_a_model_is_made_of_and_its_own_loras(
    hub: HubServer,
    entry: ModelEntry,
    settings: WorkerSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub.folder = Path(shutil.copytree(hub.folder, tmp_path / "repository"))
    small_lora(hub.folder / "pen.safetensors")
    base = entry.model_dump(mode="json")
    quick = {**base, "name": "quick", "base": entry.name, "own_loras": [{"name": "pen"}]}
    source = {"type": "hub", "repo": "some/model", "file": "pen.safetensors"}
    loras = [{"name": "pen", "family": "sd", "source": source}]
    (tmp_path / "catalogue.json").write_text(json.dumps({"models": [base, quick], "loras": loras}))
    monkeypatch.setenv("DARKROOM_CATALOGUE", str(tmp_path / "catalogue.json"))
    monkeypatch.setenv("DARKROOM_MODELS_DIR", str(settings.models_dir))
    assert run(["models", "pull", "quick", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["loras"] == ["pen"]
    assert read_lock(settings.models_dir).models.keys() == {entry.name, "loras/pen"}
    hub.downloads.clear()
    assert run(["loras", "pull", "pen", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["revision"] == COMMIT
    assert hub.downloads == []


def test_a_lost_file_alone_is_fetched_again(hub: HubServer, entry: ModelEntry, settings: WorkerSettings) -> None:
    pull(entry, settings)
    (settings.models_dir / entry.name / COMMIT / "vae" / "config.json").unlink()
    hub.downloads.clear()
    pull(entry, settings)
    assert hub.downloads == ["vae/config.json"]


@pytest.mark.parametrize(
    ("status", "code", "said", "hint"),
    [
        (403, "GatedRepo", "is gated", "accept its licence on https://huggingface.co/some/model and set HF_TOKEN"),
        (401, "RepoNotFound", "no repository 'some/model'", "HF_TOKEN"),
        (404, "RepoNotFound", "no repository 'some/model'", "check `repo`"),
        (404, "RevisionNotFound", "no revision 'main'", "check `revision`"),
        (500, "", "refused some/model", "try again later"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(
    hub: HubServer, entry: ModelEntry, settings: WorkerSettings, status: int, code: str, said: str, hint: str
) -> None:
    hub.refusal = (status, code)
    with pytest.raises(ModelMissing, match=said) as caught:
        pull(entry, settings)
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


def test_no_hub_at_all(hub: HubServer, entry: ModelEntry, settings: WorkerSettings) -> None:
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ModelMissing, match="cannot be reached") as caught:
        pull(entry, settings)
    assert "network" in caught.value.hint


def test_offline_by_setting(
    hub: HubServer, entry: ModelEntry, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelMissing) as caught:
        pull(entry, settings)
    assert "network" in caught.value.hint or "HF_HUB_OFFLINE" in caught.value.hint


def test_a_name_that_is_no_repository(hub: HubServer, entry: ModelEntry, settings: WorkerSettings) -> None:
    wrong = entry.model_copy(update={"source": HubSource(repo="not a/repo/at all")})
    with pytest.raises(ModelMissing, match="no repository"):
        pull(wrong, settings)
