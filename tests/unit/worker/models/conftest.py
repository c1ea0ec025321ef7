"""Models that a test may spoil, and where they are pinned."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from darkroom.tasks.catalogue import Family, FolderSource, ModelEntry
from darkroom.worker.models.device import Placement
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels

LOOPBACK = "127.0.0.1"  # where clients of other tests may still be at it
Copied = Callable[[Family], ModelEntry]


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    return WorkerSettings(models_dir=tmp_path / "models-dir")


@pytest.fixture
def placement() -> Placement:
    return Placement(torch.device("cpu"), torch.float32, "full", 1)


@pytest.fixture
def copied(tiny_models: TinyModels, tmp_path: Path) -> Copied:
    """A copy of a tiny model in `tmp_path/model`."""

    def copy(family: Family) -> ModelEntry:
        source = tiny_models(family).source
        assert isinstance(source, FolderSource)
        folder = tmp_path / "model"
        shutil.copytree(source.path, folder)
        return tiny_models(family).model_copy(update={"source": FolderSource(path=folder)})

    return copy


@pytest.fixture
def edit() -> Callable[..., None]:
    """Change keys of a JSON file; None takes a key out."""

    def change(path: Path, **keys: Any) -> None:
        table = {**json.loads(path.read_text()), **keys}
        path.write_text(json.dumps({key: value for key, value in table.items() if value is not None}))

    return change


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def named(host: Any, *args: Any, **kwargs: Any) -> Any:
        assert host == LOOPBACK, "loading must not open a connection"
        return look_up(host, *args, **kwargs)

    def connected(self: socket.socket, address: Any) -> None:
        assert address[0] == LOOPBACK, "loading must not open a connection"
        connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", named)
    monkeypatch.setattr(socket.socket, "connect", connected)
