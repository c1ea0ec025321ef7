"""What Darkroom adds to a job: from submit to `job.succeeded`, less the time in pipeline, encoding and storage.

Beside it bare Celery: from `apply_async` until a task that does nothing but publish has been heard of.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from celery import Celery

from bench.harness import running_worker
from bench.table import Row
from darkroom.tasks import Darkroom, Txt2Img

JOBS = 60
WORK = ("inputs", "prepare", "generate", "encode", "store")


def measure() -> list[Row]:
    """Medians of interleaved jobs, the server on the same machine."""
    with running_worker(concurrency="2") as running, _bare_worker(running.server.url) as bare:
        _ours(running.client), bare()  # the first of each makes connections
        ours, theirs = [], []
        for _ in range(JOBS):
            ours.append(_ours(running.client))
            theirs.append(bare())
    mine, celery = statistics.median(ours) * 1000, statistics.median(theirs) * 1000
    return [
        Row("bare Celery worker: apply_async to a published word", f"{celery:.1f} ms"),
        Row("Darkroom: submit to job.succeeded, less the work itself", f"{mine:.1f} ms", "<= 15 ms", mine <= 15),
    ]


def _ours(client: Darkroom) -> float:
    began = time.perf_counter()
    handle = client.submit(Txt2Img(prompt="a lighthouse", num_inference_steps=2, seed=1))
    for event in handle.watch():
        if event.type == "job.succeeded":
            total = time.perf_counter() - began
            return total - float(sum(event.data["timings"].get(phase, 0.0) for phase in WORK))
    raise AssertionError("the job did not succeed")


@contextmanager
def _bare_worker(url: str) -> Iterator["Bare"]:
    command = [sys.executable, "-m", "celery", "-A", "bench.bare", "-b", url, "worker", "-c", "2", "-P", "threads"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Bare(url)
    finally:
        process.terminate()
        process.wait()


class Bare:
    """Calls the bare worker's task and waits for its word."""

    def __init__(self, url: str) -> None:
        self._app = Celery("bare", broker=url, set_as_current=False)
        self._client = redis.Redis.from_url(url)
        self._heard = self._client.pubsub()
        self._heard.subscribe("bare")
        self._heard.get_message(timeout=5)

    def __call__(self) -> float:
        """Seconds from the call to the word."""
        began = time.perf_counter()
        self._app.send_task("bare.run", (self._client.connection_pool.connection_kwargs["port"],), ignore_result=True)
        while not self._heard.get_message(timeout=10):
            pass
        return time.perf_counter() - began
