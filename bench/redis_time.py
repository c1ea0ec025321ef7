"""Redis's time for a job, watched and not: what its scripts take, as it counts them itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import redis
from pydantic import SecretStr

from bench.table import Row
from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, JobResult, StoredImage, TaskSettings, claims
from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.tasks.claims import Claim
from darkroom.tasks.redis_io import BlockingIO, Operation
from darkroom.tasks.word import is_watched

JOBS, ROUNDS = 600, 5
AT_ONCE, TIMES = 16, 500
PICTURE_STEPS, PICTURE_SECONDS = 10, 2  # told of a picture of two seconds, at five a second
REQUEST = {"prompt": "a lighthouse at dusk", "model": "sdxl"}

T = TypeVar("T")


@dataclass
class _Bench:
    """A server, and a hand that does what a worker does, without a model."""

    client: Darkroom
    io: BlockingIO
    raw: redis.Redis
    rules: TaskSettings

    def time_of(self, what: Callable[[], object], times: int, command: str = "evalsha") -> float:
        """Microseconds of such commands for one of so many: the least of some rounds, for others want its core, too."""
        return min(self._round(what, command) for _ in range(ROUNDS)) / times

    def _round(self, what: Callable[[], object], command: str) -> float:
        self.raw.config_resetstat()
        what()
        return float(self.raw.info("commandstats")[f"cmdstat_{command}"]["usec"])

    def together(self, operations: Sequence[Operation[T]]) -> list[T]:
        """Operations of one call each, in one pipeline: a server that is busy finds its caches warm."""
        return self.io.run(_together(operations))

    def claims(self, count: int) -> list[Claim]:
        """So many jobs, taken by the hand."""
        ids = [outcome.job.id for outcome in self.client.submit_many([REQUEST] * count) if outcome.job]
        found = self.together([claims.claim(job_id, "hand", 600, self.rules) for job_id in ids])
        return [claim for claim in found if isinstance(claim, Claim)]

    def jobs(self) -> None:
        """Whole jobs: submitted, claimed, a picture, the end."""
        held = self.claims(JOBS)
        made = [StoredImage(index=0, key=f"{one.job_id}/0-0123456789abcdef.png", seed=0, width=64, height=64,
                            sha256="a" * 64, bytes=9, content_type="image/png") for one in held]  # fmt: skip
        self.together([claims.image(one, image) for one, image in zip(held, made, strict=True)])
        ends = [JobResult(manifest=f"{one.job_id}/manifest.json") for one in held]
        assert all(
            self.together([claims.succeed(*of, self.rules) for of in zip(held, ends, [[m] for m in made], strict=True)])
        )

    def other_calls(self, held: Sequence[Claim]) -> None:
        """What else each job asks for outside of scripts: whether somebody watches it."""
        self.together([is_watched(one.job_id) for one in held])

    def renew(self, held: Sequence[Claim]) -> None:
        """Again and again, each time with how far each is."""
        steps = [f'{{"image": 0, "step": {number}, "of": {TIMES}, "preview": false}}' for number in range(TIMES)]
        self.together([claims.renew(held, 600, {one.token: step for one in held}) for step in steps])

    def tell(self, held: Claim) -> None:
        """Of many steps."""
        said = [{"image": 0, "step": number, "of": TIMES, "preview": False} for number in range(TIMES)]
        self.together([claims.progress(held, step, None) for step in said])


def _together(operations: Sequence[Operation[T]]) -> Operation[list[T]]:
    replies = yield [next(operation) for operation in operations]  # type: ignore[misc]
    return [_result(operation, reply) for operation, reply in zip(operations, replies, strict=True)]


def _result(operation: Operation[T], reply: object) -> T:
    try:
        operation.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the operation has a second call")


def measure() -> list[Row]:
    """A job without its renewals, a renewal, and a published step; from these, pictures of two seconds."""
    with LocalServer() as server:
        settings = TaskSettings(redis_url=SecretStr(server.url))
        io, raw = BlockingIO(settings), redis.Redis.from_url(server.url)
        io.run(claims.serve("hand", {}, 3600, [builtin_catalogue()["sdxl"].offer()]))
        with Darkroom(settings) as client:
            bench = _Bench(client, io, raw, settings)
            held = bench.claims(AT_ONCE)
            job = bench.time_of(bench.jobs, JOBS) + bench.time_of(lambda: bench.other_calls(held), AT_ONCE, "exists")
            renewal = bench.time_of(lambda: bench.renew(held), TIMES * AT_ONCE)
            alone = bench.time_of(lambda: bench.renew(held[:1]), TIMES)
            step = bench.time_of(lambda: bench.tell(held[0]), TIMES)
        io.close()
        raw.close()
    beat, told = PICTURE_SECONDS * renewal, PICTURE_STEPS * step
    return [
        Row("an unwatched job without its renewals", f"{job / 1000:.2f} ms", "<= 0.6 ms", job <= 600),
        Row(f"a job's renewal, each second, at {AT_ONCE} in a worker", f"{renewal:.1f} us", "<= 10 us", renewal <= 10),
        Row("the same, of one alone in its worker", f"{alone:.0f} us"),
        Row("a published step, while it is watched", f"{step:.0f} us", "<= 100 us", step <= 100),
        Row("a picture of 2 s, unwatched", f"{(job + beat) / 1000:.2f} ms"),
        Row(f"the same, watched: {PICTURE_STEPS} steps are published", f"{(job + beat + told) / 1000:.2f} ms"),
    ]
