"""A server, a tiny model and a worker process, for measurements that need the whole."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, TaskSettings
from darkroom.tasks.catalogue import Catalogue, ModelEntry
from darkroom.worker.models.tiny import make_tiny


@dataclass(frozen=True)
class Running:
    """A client, the worker's process, and the DARKROOM_ variables with which it runs; its model and the server."""

    client: Darkroom
    process: subprocess.Popen[bytes]
    server: LocalServer
    environment: dict[str, str]
    entry: ModelEntry

    @property
    def catalogue(self) -> Catalogue:
        """All that the worker knows."""
        return {self.entry.name: self.entry}


@contextmanager
def running_worker(
    beside: Callable[[ModelEntry], Mapping[str, list[Any]]] = lambda _: {}, **settings: str
) -> Iterator[Running]:
    """A worker of a tiny model; `settings` are further DARKROOM_ variables.

    `beside` writes what belongs to the model's folder, and gives further entries of the catalogue.
    """
    with tempfile.TemporaryDirectory() as name, LocalServer() as server:
        folder = Path(name)
        entry = make_tiny("sdxl", folder / "tiny")
        more = dict(beside(entry))
        models = [entry.model_dump(mode="json"), *more.pop("models", [])]
        (folder / "catalogue.json").write_text(json.dumps({"models": models, **more}))
        wishes = {
            "redis_url": server.url,
            "storage_url": f"file://{folder}/objects",
            "catalogue": str(folder / "catalogue.json"),
            "models_dir": str(folder / "models"),
            "device": "cpu",
            "log_level": "warning",
            **settings,
        }
        environment = {f"DARKROOM_{key.upper()}": value for key, value in wishes.items()}
        command = [sys.executable, "-m", "darkroom.worker", entry.name]
        process = subprocess.Popen(command, env={**os.environ, **environment})
        try:
            with Darkroom(TaskSettings(redis_url=SecretStr(server.url))) as client:
                while not client.models().workers.get(entry.name):
                    assert process.poll() is None, "the worker ended"
                    time.sleep(0.1)
                yield Running(client, process, server, environment, entry)
        finally:
            process.terminate()
            process.wait()


def quiet_logs() -> None:
    """Of what runs in this process: only errors, so that the table is not lost among them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
