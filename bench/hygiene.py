"""What is left in Redis when many jobs are over and their records have expired."""

import json
import time
from collections import Counter

import redis
from pydantic import SecretStr

from bench.table import Row
from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, JobError, JobResult, StoredImage, TaskSettings, Txt2Img, claims
from darkroom.tasks.claims import Claim
from darkroom.tasks.reconcile import walk_all
from darkroom.tasks.redis_io import BlockingIO

JOBS, ROUND = 100_000, 2_000
RECORD_SECONDS = 60  # the least that the setting allows
QUEUE = "queue:sdxl:bulk"
FOR_GOOD = {"clock", "lanes", "marks", "models", "offers", "feed", "store"}  # a day of the feed; one field a name


def measure() -> list[Row]:
    """Keys by their kind and memory, at the peak and after it. Nothing is generated: a hand writes what workers do."""
    with LocalServer() as server:
        settings = TaskSettings(
            redis_url=SecretStr(server.url), record_ttl=RECORD_SECONDS, idempotency_ttl=RECORD_SECONDS
        )
        raw = redis.Redis.from_url(server.url, decode_responses=True)
        io = BlockingIO(settings)
        with Darkroom(settings) as client:
            began = time.perf_counter()
            peak = max(_round(client, io, raw, settings, first) for first in range(0, JOBS, ROUND))
            rate = JOBS / (time.perf_counter() - began)
        _expired(raw, settings)
        io.run(walk_all(RECORD_SECONDS))
        left, memory, feed = _kinds(raw, settings), _memory(raw), raw.xlen(f"{settings.redis_prefix}feed")
        feed_memory = (raw.memory_usage(f"{settings.redis_prefix}feed", samples=0) or 0) / 2**20
        io.close()
        raw.close()
    strange = {kind: count for kind, count in left.items() if kind not in FOR_GOOD}
    return [
        Row(f"{JOBS:,} jobs, one in ten failed, one in ten canceled", f"{rate:,.0f} /s"),
        Row("memory at the peak, most keys", f"{peak[0]:.0f} MB; {peak[1]:,}"),
        Row(f"{RECORD_SECONDS} s after the last: memory; of it the feed", f"{memory:.0f} MB; {feed_memory:.0f} MB"),
        Row("entries in the feed, which keeps a day", f"{feed:,}"),
        Row("keys left", ", ".join(sorted(left))),
        Row("keys left that should not be", ", ".join(sorted(strange)) or "none", "none", not strange),
    ]


def _round(client: Darkroom, io: BlockingIO, raw: redis.Redis, rules: TaskSettings, first: int) -> tuple[float, int]:
    """So many jobs from their submission to their end; memory in MB and keys afterwards."""
    asked = (
        Txt2Img(prompt=f"a cat {n}", model="sdxl", lane="bulk", tenant=f"t{n % 50}", idempotency_key=f"k{n}")
        for n in range(first, first + ROUND)
    )
    for outcome in client.submit_many(asked):
        assert outcome.error is None, outcome.error
    number = 0
    while message := raw.rpop(rules.redis_prefix + QUEUE):
        _work(client, io, json.loads(str(message))["headers"]["id"], number, rules)
        number += 1
    assert number == ROUND
    return _memory(raw), int(raw.dbsize())


def _work(client: Darkroom, io: BlockingIO, job_id: str, number: int, rules: TaskSettings) -> None:
    if number % 10 == 1:
        client.cancel(job_id)
        return
    held = io.run(claims.claim(job_id, "hand", 30, rules))
    assert isinstance(held, Claim)
    io.run(claims.progress(held, {"image": 0, "step": 1, "of": 1, "preview": True}, b"x" * 2000))
    if number % 10 == 2:
        io.run(claims.fail(held, JobError(code="internal_error", message="a bug"), rules))
        return
    key = f"{job_id}/0-0123456789abcdef.png"
    made = StoredImage(index=0, key=key, seed=number, width=64, height=64, sha256="a" * 64, bytes=9,
                       content_type="image/png")  # fmt: skip
    io.run(claims.image(held, made))
    assert io.run(claims.succeed(held, JobResult(manifest=f"{job_id}/manifest.json"), [], rules))


def _expired(raw: redis.Redis, rules: TaskSettings) -> None:
    """Waits until no record is left."""
    deadline = time.monotonic() + 2 * RECORD_SECONDS
    while next(raw.scan_iter(f"{rules.redis_prefix}job:*", count=10_000), None):
        assert time.monotonic() < deadline
        time.sleep(1)


def _kinds(raw: redis.Redis, rules: TaskSettings) -> Counter[str]:
    """Keys by the first part of their names."""
    return Counter(key.removeprefix(rules.redis_prefix).partition(":")[0] for key in raw.scan_iter(count=10_000))


def _memory(raw: redis.Redis) -> float:
    return float(raw.info("memory")["used_memory"]) / 2**20
