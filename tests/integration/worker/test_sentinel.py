"""Behind sentinels: producers and workers find the master, and the new one after a failover.

The failover is done by hand, as sentinels do it, so that no clock of theirs has a say.
"""

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer, find_server
from darkroom.tasks import AsyncDarkroom, Darkroom, QueueUnavailable, State, TaskSettings

from .apps import Start

MASTER = "photos"


@dataclass
class Cluster:
    """A master, a replica, and a sentinel that tells which is which."""

    master: LocalServer
    replica: LocalServer
    sentinel: "redis.Redis[str]"
    settings: TaskSettings

    def replicated(self) -> None:
        """The replica has everything."""
        with redis.Redis(port=self.master.port, socket_timeout=90) as master:
            master.set("mark", 1)  # the server waits for what this connection wrote, and for all before it
            assert master.execute_command("WAIT", 1, 60_000) == 1

    def fail_over(self, *, demote: bool = True) -> None:
        """The replica becomes the master; the master its replica, if it hears of it."""
        with redis.Redis(port=self.replica.port) as promoted:
            promoted.replicaof("NO", "ONE")
        self.sentinel.sentinel_remove(MASTER)
        self.sentinel.sentinel_monitor(MASTER, "127.0.0.1", self.replica.port, 1)
        if demote:
            with redis.Redis(port=self.master.port) as demoted:
                demoted.replicaof("127.0.0.1", self.replica.port)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with LocalServer() as master, LocalServer("--replicaof", f"127.0.0.1 {master.port}") as replica:
        with LocalServer() as probe:  # a port that is free, and a server that answers there like any other
            port = probe.port
        config = tmp_path / "sentinel.conf"
        config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor {MASTER} 127.0.0.1 {master.port} 1\n"
                          f"sentinel down-after-milliseconds {MASTER} 600000\n")  # fmt: skip
        process = subprocess.Popen([find_server(), config, "--sentinel"], stdout=subprocess.DEVNULL)
        settings = TaskSettings(redis_url=SecretStr(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/{MASTER}/0"))
        with redis.Redis(port=port, decode_responses=True) as sentinel:
            _wait_for(sentinel)
            yield Cluster(master, replica, sentinel, settings)
        process.terminate()
        process.wait()


def _wait_for(sentinel: "redis.Redis[str]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if sentinel.ping():
                return
        except redis.ConnectionError:
            assert time.monotonic() < deadline


def submit(client: Darkroom) -> str:
    return client.submit({"prompt": "a cat", "model": "sdxl"}).id


def test_jobs_go_on_at_the_new_master(cluster: Cluster, start: Start) -> None:
    with Darkroom(cluster.settings) as client:
        app, before = start(settings=cluster.settings), submit(client)
        app.wait_for("began", job=before)
        app.tell(".")
        cluster.replicated()
        cluster.fail_over()
        with pytest.raises(QueueUnavailable, match="now a slave"):  # of the connection that was open; it took no job
            submit(client)
        after = submit(client)
        app.wait_for("began", job=after)
        app.tell(".")
        app.wait_for("ended", job=after)
        assert [job.id for job in client.jobs()] == [after, before]
    assert app.terminate() == 0


def test_a_master_that_hangs_is_left(cluster: Cluster, start: Start) -> None:
    with Darkroom(cluster.settings) as client:
        app, before = start(settings=cluster.settings), submit(client)
        app.wait_for("began", job=before)
        app.tell(".")
        cluster.replicated()
        assert cluster.master.process
        cluster.master.process.send_signal(signal.SIGSTOP)
        with pytest.raises(QueueUnavailable):
            submit(client)
        cluster.fail_over(demote=False)
        after = submit(client)
        app.wait_for("began", job=after)
        app.tell(".")
        app.wait_for("ended", job=after)
        cluster.master.process.send_signal(signal.SIGCONT)
    assert app.terminate() == 0


def test_no_sentinel_at_all(cluster: Cluster) -> None:
    url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:2/{MASTER}"
    with Darkroom(TaskSettings(redis_url=SecretStr(url))) as client, pytest.raises(QueueUnavailable, match=MASTER):
        submit(client)


async def _in_an_event_loop(settings: TaskSettings) -> State:
    async with AsyncDarkroom(settings) as client:
        handle = await client.submit({"prompt": "a cat", "model": "sdxl"})
        return (await handle.get()).state


def test_from_an_event_loop(cluster: Cluster) -> None:
    assert asyncio.run(_in_an_event_loop(cluster.settings)) is State.QUEUED
