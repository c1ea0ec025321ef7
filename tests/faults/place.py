"""Where fault tests happen: a Redis with an append-only file, an S3 server, a tiny model; both servers can go away."""

import json
import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3.session
import redis
from moto.server import ThreadedMotoServer
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from darkroom.cli.demo.server import LocalServer
from darkroom.storage import ObjectStore, StorageSettings, open_store
from darkroom.tasks import Darkroom, JobHandle, QueueUnavailable, TaskSettings
from darkroom.tasks.catalogue import ModelEntry

from .workers import Workers, until

BUCKET, PREFIX = "darkroom", "faults:"
LEASE_SECONDS = 3.0
JOBS, IMAGES = 4, 8  # at a time in one worker


class RedisServer:
    """A server whose file is written before it answers: it may be killed at any time and comes back as it was."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._inner = LocalServer("--appendonly", "yes", "--appendfsync", "always", *options, folder=folder).start()
        self.port, self.url = self._inner.port, self._inner.url
        self.admin: redis.Redis[str] = redis.Redis(port=self.port, decode_responses=True, retry=Retry(NoBackoff(), 0))

    def down(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends it; with SIGKILL as a crash does."""
        assert self._inner.process
        self._inner.process.send_signal(number)
        self._inner.process.wait()

    def up(self) -> None:
        """Starts it again, with what its file holds."""
        deadline = time.monotonic() + 60
        while True:
            self._inner.port = self.port
            with suppress(QueueUnavailable):
                self._inner.start()
                assert self._inner.port == self.port
                return
            assert time.monotonic() < deadline

    def freeze(self) -> None:
        """It takes connections and answers nothing."""
        assert self._inner.process
        self._inner.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._inner.process
        self._inner.process.send_signal(signal.SIGCONT)

    def cut_connections(self, chance: random.Random | None = None) -> None:
        """Of all clients, or each with a chance of one in three."""
        for client in self.admin.client_list():
            if client["id"] != str(self.admin.client_id()) and (chance is None or chance.random() < 1 / 3):
                with suppress(redis.ResponseError):  # it has gone by itself
                    self.admin.client_kill_filter(_id=client["id"])

    def stop(self) -> None:
        self.admin.close()
        self._inner.stop()


class Storage:
    """An S3 server in this process; what it holds outlives it being down."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, self._port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{self._port}"
        self.settings = StorageSettings(
            storage_url=f"s3://{BUCKET}/kept",
            s3_endpoint_url=self.endpoint,
            s3_region="us-east-1",
            s3_access_key_id="darkroom",
            s3_secret_access_key=SecretStr("darkroom-secret"),
        )
        session = boto3.session.Session("darkroom", "darkroom-secret", region_name="us-east-1")
        client: Any = session.client("s3", endpoint_url=self.endpoint)
        client.create_bucket(Bucket=BUCKET)
        self.store: ObjectStore = open_store(self.settings)

    def down(self) -> None:
        """Connections are refused."""
        self._server.stop()

    def up(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()

    def empty(self) -> None:
        """Nothing is left of what an earlier test stored."""
        for item in self.store.list(""):
            self.store.delete(item.key)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DARKROOM_STORAGE_URL": f"s3://{BUCKET}/kept",
            "DARKROOM_S3_ENDPOINT_URL": self.endpoint,
            "DARKROOM_S3_REGION": "us-east-1",
            "DARKROOM_S3_ACCESS_KEY_ID": "darkroom",
            "DARKROOM_S3_SECRET_ACCESS_KEY": "darkroom-secret",
        }


@dataclass(frozen=True)
class Place:
    """Everything a test can disturb, and a client to look at what comes of it."""

    server: RedisServer
    storage: Storage
    workers: Workers
    client: Darkroom
    settings: TaskSettings
    model: str

    def submit(self, **fields: Any) -> JobHandle:
        """A small job: four steps at 64 x 64 unless told otherwise."""
        return self.client.submit({"prompt": "a red fox", "model": self.model, **fields})

    def ready(self, count: int) -> None:
        """Starts workers until there are so many, and waits until all of them take jobs."""
        self.workers.start(max(0, count - len(self.workers.living)))
        until(lambda: all(map(self.workers.ready, self.workers.living)), f"{count} workers are ready")

    def key(self, name: str) -> str:
        return PREFIX + name

    def knocks(self) -> dict[str, int]:
        """Those that nobody has read yet, by their lists; of jobs with needs, too."""
        lists = [f"queue:{lane}" for lane in self.server.admin.smembers(self.key("lanes"))]
        return {name: count for name in lists if (count := self.server.admin.llen(self.key(name)))}


@contextmanager
def open_place(
    entry: ModelEntry,
    storage: Storage,
    folder: Path,
    options: tuple[str, ...] = (),
    catalogue: Mapping[str, Any] | None = None,
    **environment: str,
) -> Iterator[Place]:
    """A place with a server of its own and no worker yet; the catalogue has the entry, or what is given."""
    server = RedisServer(folder / "redis", *options)
    alone = {"models": [entry.model_dump(mode="json", exclude={"loras", "own_loras", "base", "scheduler_config"})]}
    (folder / "catalogue.json").write_text(json.dumps(catalogue or alone))
    settings = TaskSettings(redis_url=SecretStr(server.url), redis_prefix=PREFIX)
    variables = {
        "DARKROOM_REDIS_URL": server.url,
        "DARKROOM_REDIS_PREFIX": PREFIX,
        "DARKROOM_CATALOGUE": str(folder / "catalogue.json"),
        "DARKROOM_MODELS_DIR": str(folder / "models"),
        "DARKROOM_LEASE_SECONDS": str(LEASE_SECONDS),
        "DARKROOM_CONCURRENCY": str(JOBS),
        "DARKROOM_MAX_BATCH": str(IMAGES),
        "DARKROOM_THREADS": "1",
        "DARKROOM_LOG_FORMAT": "json",
        **storage.environment,
        **environment,
    }
    try:
        with (
            Workers(entry.name, variables, folder) as workers,
            Darkroom(settings, storage=storage.store) as client,
        ):
            yield Place(server, storage, workers, client, settings, entry.name)
    finally:
        server.stop()
