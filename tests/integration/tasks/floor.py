"""A shop floor in virtual time: tenants submit, workers take whose turn it is, and jobs take what they cost."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from darkroom.tasks import Darkroom, JobResult, TaskSettings, claims
from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.tasks.claims import Claim, Refusal
from darkroom.tasks.needs import abilities
from darkroom.tasks.places import Place, beside
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.requests import KINDS

PACE_MS = 50  # that a cost of one takes
LEASE = 1e6
NEEDS = sorted(abilities(KINDS.values()))
WORKERS_LANES = ("interactive", "bulk", "training")


@dataclass(frozen=True)
class Start:
    """A job that was started: whose, where, and when in virtual seconds."""

    claim: Claim
    tenant: str
    user: str
    place: Place
    cost: float
    at: float

    @property
    def id(self) -> str:
        return self.claim.job_id


class Floor:
    """Producers, and workers that read the lanes of the models which they are asked to serve."""

    def __init__(self, settings: TaskSettings, raw: "redis.Redis[str]", *models: str) -> None:
        self.rules, self.raw = settings, raw
        self.io, self.client = BlockingIO(settings), Darkroom(settings)
        self.models = models or ("sdxl",)
        self.clock = datetime.now(UTC).replace(microsecond=0)
        self.began = self.clock
        self.starts: list[Start] = []
        self.pass_time(0)
        offers = [builtin_catalogue()["sdxl"].offer().model_copy(update={"name": name}) for name in self.models]
        self.io.run(claims.serve("w", {}, 3600, offers, dict.fromkeys(self.models, NEEDS)))

    def close(self) -> None:
        self.io.close()
        self.client.close()

    def key(self, *parts: str) -> str:
        return self.rules.redis_prefix + ":".join(parts)

    def pass_time(self, seconds: float) -> None:
        self.clock += timedelta(seconds=seconds)
        self.raw.set(self.key("test-clock"), round(self.clock.timestamp() * 1000))

    @property
    def now(self) -> float:
        return (self.clock - self.began).total_seconds()

    def submit(self, tenant: str, number: int = 1, **fields: Any) -> list[str]:
        """So many jobs of a tenant, each of a picture of 1024 x 1024 in 10 steps unless told otherwise."""
        return self.submit_each([{"tenant": tenant, **fields}] * number)

    def submit_each(self, asked: Sequence[dict[str, Any]]) -> list[str]:
        usual = {"prompt": "a cat", "model": self.models[0], "num_inference_steps": 10}
        found = [*self.client.submit_many(usual | one for one in asked)]
        assert all(one.job for one in found), found[0].error
        return [one.job.id for one in found if one.job]

    def cost(self, job_id: str) -> float:
        return float(self.raw.hget(self.key("job", job_id), "cost") or 0)

    def places(self, models: Sequence[str] = (), lanes: Sequence[str] = WORKERS_LANES) -> list[Place]:
        """Those that a worker of these models reads."""
        models = models or self.models
        home = [Place(model, lane) for lane in lanes for model in models]
        more = self.io.run(beside(dict.fromkeys(models, NEEDS)))
        return home + [place for place in more if place.lane in lanes]

    def ask(self, *models: str, token: str | None = None, **more: Any) -> Claim | Refusal:
        """What a worker of these models has for a knock."""
        has = dict.fromkeys(models or self.models, NEEDS)
        places = more.pop("places", None) or self.places(models)
        return self.io.run(claims.claim_next(places, "w", LEASE, self.rules, has, token=token, **more))

    def take(self, *models: str, **more: Any) -> Start:
        """A job is started."""
        claim = self.ask(*models, **more)
        assert isinstance(claim, Claim), claim
        return self.started(claim)

    def started(self, claim: Claim) -> Start:
        """What there is to know of it."""
        tenant, user, lane, cost = self.raw.hmget(self.key("job", claim.job_id), "tenant", "user", "lane", "cost")
        place = Place.parse(lane or "")
        self.starts.append(Start(claim, tenant or "", user or "", place, float(cost or 1), self.now))
        return self.starts[-1]

    def end(self, start: Start) -> None:
        assert self.io.run(claims.succeed(start.claim, JobResult(manifest="m.json"), [], self.rules))

    def serve(self, number: int, *models: str, **more: Any) -> list[Start]:
        """One worker does so many jobs, one after the other."""
        return [self._serve_one(*models, **more) for _ in range(number)]

    def _serve_one(self, *models: str, **more: Any) -> Start:
        start = self.take(*models, **more)
        self.pass_time(round(start.cost * PACE_MS) / 1000)
        self.end(start)
        return start

    def knocks(self, lane: str = "sdxl:interactive") -> list[str]:
        """The ids that the messages of a lane name, the next first."""
        found = self.raw.lrange(self.key("queue", lane), 0, -1)
        return [json.loads(one)["headers"]["id"] for one in reversed(found)]

    def forget_knocks(self) -> None:
        for key in self.raw.scan_iter(self.key("queue", "*")):
            self.raw.delete(key)

    def waiting(self) -> Iterator[str]:
        return iter(self.raw.zrange(self.key("index", "queued"), 0, -1))


def served(starts: Sequence[Start], of: str = "tenant") -> Counter[str]:
    """What each had, in cost."""
    found: Counter[Any] = Counter()
    for start in starts:
        found[getattr(start, of)] += start.cost  # type: ignore[assignment]
    return found


def shares(starts: Sequence[Start], of: str = "tenant") -> dict[str, float]:
    """What each had of all cost."""
    found = served(starts, of)
    return {name: cost / found.total() for name, cost in found.items()}
