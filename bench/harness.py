"""A server, a tiny model and a worker process, for measurements that need the whole."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from darkroom.cli.server import LocalServer
from darkroom.tasks import Darkroom, TaskSettings
from darkroom.worker.tiny import make_tiny


@contextmanager
def running_worker(**settings: str) -> Iterator[tuple[Darkroom, subprocess.Popen[bytes], LocalServer]]:
    """A client, the worker's process and the server; `settings` are further DARKROOM_ variables."""
    with tempfile.TemporaryDirectory() as name, LocalServer() as server:
        folder = Path(name)
        entry = make_tiny("sdxl", folder / "tiny")
        (folder / "catalogue.json").write_text(json.dumps({"models": [entry.model_dump(mode="json")]}))
        environment = {
            **os.environ,
            "DARKROOM_REDIS_URL": server.url,
            "DARKROOM_STORAGE_URL": f"file://{folder}/objects",
            "DARKROOM_CATALOGUE": str(folder / "catalogue.json"),
            "DARKROOM_MODELS_DIR": str(folder / "models"),
            "DARKROOM_DEVICE": "cpu",
            "DARKROOM_LOG_LEVEL": "warning",
            **{f"DARKROOM_{key.upper()}": value for key, value in settings.items()},
        }
        process = subprocess.Popen([sys.executable, "-m", "darkroom.worker", entry.name], env=environment)
        try:
            with Darkroom(TaskSettings(redis_url=SecretStr(server.url))) as client:
                while not client.models().workers.get(entry.name):
                    assert process.poll() is None, "the worker ended"
                    time.sleep(0.1)
                yield client, process, server
        finally:
            process.terminate()
            process.wait()
