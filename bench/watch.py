"""Many who watch in one process: the connections they take, and how late they hear of events."""

import asyncio
import itertools
import math
import random
import sys
import time

import psutil
from pydantic import SecretStr

from bench.table import Row
from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import AsyncDarkroom, TaskSettings, Txt2Img, claims
from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.tasks.claims import Claim
from darkroom.tasks.redis_io import BlockingIO

WATCHERS, RUNNING, RATE, SECONDS = 2_000, 50, 100, 10
CONNECTIONS = 4


def measure() -> list[Row]:
    """2,000 watch as many jobs, 50 of which run and tell of 100 steps a second; another process plays the workers."""
    with LocalServer() as server:
        settings = TaskSettings(redis_url=SecretStr(server.url))
        io = BlockingIO(settings)
        io.run(claims.serve("hand", {}, 60, [builtin_catalogue()["sdxl"].offer()]))
        io.close()
        delays, connections, share = asyncio.run(_watch(server, settings))
    late = delays[math.ceil(len(delays) * 0.99) - 1] * 1000
    return [
        Row(f"{WATCHERS:,} watchers in one process: connections",
            f"{connections}", f"<= {CONNECTIONS}", connections <= CONNECTIONS),
        Row(f"{len(delays):,} events, {RATE} a second: delay, median and 99%",
            f"{delays[len(delays) // 2] * 1000:.0f} ms, {late:.0f} ms", "99% <= 250 ms", late <= 250),
        Row("CPU time of the process meanwhile", f"{share:.0%}"),
    ]  # fmt: skip


async def _watch(server: LocalServer, settings: TaskSettings) -> tuple[list[float], int, float]:
    """Sorted delays in seconds, the most connections at a time, and the share of a core that watching took."""
    delays: list[float] = []
    begun = asyncio.Semaphore(0)

    async def follow(client: AsyncDarkroom, job_id: str) -> None:
        async for event in client.watch(job_id):
            if event.type == "job.queued":
                begun.release()
            else:
                delays.append(time.time() - event.time)

    async with AsyncDarkroom(settings) as client, asyncio.TaskGroup() as group:
        request = Txt2Img(prompt="a cat", model="sdxl")
        ids = [outcome.job.id async for outcome in client.submit_many([request] * WATCHERS) if outcome.job]
        tasks = [group.create_task(follow(client, job_id)) for job_id in ids]
        for _ in ids:
            await begun.acquire()
        began, cpu = time.perf_counter(), time.process_time()
        command = (sys.executable, "-m", "bench.watch", server.url, *random.sample(ids, RUNNING))
        hand = asyncio.create_task((await asyncio.create_subprocess_exec(*command)).wait())
        most = 0
        while not hand.done():
            most = max(most, _connections(server.port))
            await asyncio.wait([hand], timeout=0.5)
        share = (time.process_time() - cpu) / (time.perf_counter() - began)
        for task in tasks:
            task.cancel()
    return sorted(delays), most, share


def _connections(port: int) -> int:
    """Of this process to the server."""
    return sum(bool(c.raddr) and c.raddr.port == port for c in psutil.Process().net_connections("tcp"))


def _play(url: str, ids: list[str]) -> None:
    """The workers: each job is claimed, and tells of its steps in turn."""
    settings = TaskSettings(redis_url=SecretStr(url))
    io = BlockingIO(settings)
    held = [io.run(claims.claim(job_id, "hand", 60, settings)) for job_id in ids]
    began = time.perf_counter()
    for number, claim in zip(range(RATE * SECONDS), itertools.cycle(held)):
        assert isinstance(claim, Claim)
        io.run(claims.progress(claim, {"image": 0, "step": number, "of": RATE * SECONDS, "preview": False}, None))
        time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
    io.close()


if __name__ == "__main__":
    _play(sys.argv[1], sys.argv[2:])
