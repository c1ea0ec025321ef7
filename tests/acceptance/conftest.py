"""A whole Darkroom for the commands to talk to: server, folder store, and a worker with one tiny model."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from darkroom.cli.app import run
from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, TaskSettings
from darkroom.tasks.redis_io import BlockingIO
from tests.conftest import TinyModels
from tests.integration.hand import Hand
from tests.nursery import nursery

MODEL = "tiny-sdxl"
#: The server's password: no command shows it, whatever it is about, nor does the worker's log.
SECRET = "hush-hush"


@dataclass(frozen=True)
class Told:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.lines[-1]["error"]
        return found


@dataclass(frozen=True)
class Installation:
    """Where everything is; `environment` holds the DARKROOM_ variables."""

    folder: Path
    redis_url: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def objects(self) -> Path:
        return self.folder / "objects"

    def command(self, *arguments: str | Path, text: str | None = None, **environment: str) -> Told:
        """The real command, in a process of its own."""
        asked = ["-m", "darkroom.cli", *map(str, arguments)]
        done = nursery().run(asked, {**self.environment, **environment}, text=text)
        return _keeps_secrets(Told(done.returncode, done.stdout, done.stderr))


def _keeps_secrets(told: Told) -> Told:
    assert SECRET not in told.out
    assert SECRET not in told.err
    return told


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Iterator[Installation]:
    """Server, store and catalogue; no worker."""
    folder = tmp_path_factory.mktemp("darkroom")
    entry = tiny_models("sdxl")
    (folder / "catalogue.json").write_text(json.dumps({"models": [entry.model_dump(mode="json")]}))
    with LocalServer("--requirepass", SECRET) as server:
        url = server.url.replace("//", f"//:{SECRET}@")
        environment = {
            "DARKROOM_REDIS_URL": url,
            "DARKROOM_STORAGE_URL": (folder / "objects").as_uri(),
            "DARKROOM_CATALOGUE": str(folder / "catalogue.json"),
            "DARKROOM_MODELS_DIR": str(folder / "models"),
        }
        yield Installation(folder, url, environment)


@pytest.fixture(scope="session")
def darkroom(installation: Installation) -> Iterator[Installation]:
    """The installation with a worker, started by its command and stopped by Ctrl-C."""
    log = installation.folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                nursery().python,
                "-m",
                "darkroom.cli",
                "worker",
                "--model",
                MODEL,
                "--device",
                "cpu",
                "--preview-every",
                "0.2",
            ],
            env={**os.environ, **installation.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_served(installation, process, log)
        yield installation
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
        assert SECRET not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()


def _wait_until_served(installation: Installation, process: "subprocess.Popen[bytes]", log: Path) -> None:
    with Darkroom(TaskSettings.model_validate({"redis_url": installation.redis_url})) as client:
        feed_pause = 0.05
        while not client.models().workers.get(MODEL):
            try:
                process.wait(feed_pause)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"the worker ended: {log.read_text()}")


Call = Callable[..., Told]


@pytest.fixture
def call(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Call]:
    """A command in this process: all of it but the start of an interpreter."""
    before = dict(os.environ)
    for name, value in installation.environment.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str | Path) -> Told:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        told = capfd.readouterr()
        return _keeps_secrets(Told(code, told.out, told.err))

    yield call
    os.environ.clear()  # options become variables
    os.environ.update(before)


@pytest.fixture
def raw() -> Iterator["redis.Redis[bytes]"]:
    """A server of the test's own."""
    with LocalServer() as server, redis.Redis(port=server.port) as client:
        yield client


@pytest.fixture
def ask(call: Call, raw: "redis.Redis[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """A command on that server, and on an empty store."""
    port = raw.connection_pool.connection_kwargs["port"]
    monkeypatch.setenv("DARKROOM_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    monkeypatch.setenv("DARKROOM_STORAGE_URL", tmp_path.as_uri())
    return call


@pytest.fixture
def client(ask: Call) -> Iterator[Darkroom]:
    with Darkroom() as client:
        yield client


@pytest.fixture
def hand(ask: Call) -> Iterator[Hand]:
    io = BlockingIO(TaskSettings())
    yield Hand(io)
    io.close()


@pytest.fixture
def submit(client: Darkroom) -> Callable[..., list[str]]:
    """Takes in so many jobs; their ids, oldest first."""

    def submit(count: int, **fields: object) -> list[str]:
        request = {"prompt": "a cat", "model": "sdxl", **fields}
        return [found.job.id for found in client.submit_many([request] * count) if found.job]

    return submit
