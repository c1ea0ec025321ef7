"""How fast jobs are taken in, beside bare Celery's `apply_async` in the same run; and the memory of a bulk submit."""

import os
import statistics
import time
from collections.abc import Callable

import psutil
from pydantic import SecretStr

from bench.bare import app as bare_app
from bench.bare import run as bare_task
from bench.table import Row
from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, TaskSettings, Txt2Img

ROUNDS, CALLS, BULK = 7, 400, 100_000
PROMPT = "a lighthouse at dusk, oil on canvas, wide brush strokes"


def measure() -> list[Row]:
    """Rates in jobs a second on one core, the server on another where there is one."""
    cores = os.sched_getaffinity(0)
    with LocalServer() as server, Darkroom(TaskSettings(redis_url=SecretStr(server.url))) as client:
        os.sched_setaffinity(0, {min(cores)})
        try:
            return [*_single(server, client), *_bulk(client)]
        finally:
            os.sched_setaffinity(0, cores)


def _single(server: LocalServer, client: Darkroom) -> list[Row]:
    bare_app.conf.broker_url = server.url
    bare, ours = [], []
    for _ in range(ROUNDS):  # interleaved: the machine's mood hits both
        bare.append(_rate(CALLS, lambda i: bare_task.apply_async((i,))))
        ours.append(_rate(CALLS, lambda i: client.submit(Txt2Img(prompt=PROMPT, model="sdxl", seed=i))))
    ratio = statistics.median(o / b for o, b in zip(ours, bare, strict=True))
    return [
        Row("bare Celery, apply_async with ignore_result", f"{statistics.median(bare):,.0f} /s"),
        Row("Darkroom.submit", f"{statistics.median(ours):,.0f} /s"),
        Row("submit against apply_async", f"{ratio:.2f}", ">= 0.6", ratio >= 0.6),
    ]


def _bulk(client: Darkroom) -> list[Row]:
    process = psutil.Process()
    requests = (Txt2Img(prompt=f"{PROMPT} {i}", model="sdxl") for i in range(BULK))
    began, done, early, late = time.perf_counter(), 0, 0, 0
    for outcome in client.submit_many(requests):
        assert outcome.error is None, outcome.error
        done += 1
        if done == BULK // 10:
            early = process.memory_info().rss
    late = process.memory_info().rss
    rate = done / (time.perf_counter() - began)
    grown = (late - early) / 2**20
    return [
        Row(f"submit_many, {BULK:,} jobs", f"{rate:,.0f} /s", ">= 2,000 /s", rate >= 2000),
        Row("its memory, from a tenth of the way to the end", f"{grown:+.1f} MB", "flat (< 5 MB)", grown < 5),
    ]


def _rate(calls: int, call: Callable[[int], object]) -> float:
    began = time.perf_counter()
    for i in range(calls):
        call(i)
    return calls / (time.perf_counter() - began)
