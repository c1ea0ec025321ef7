"""What producers learn of workers that are not alike."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from darkroom.tasks import Darkroom, InvalidRequest, TaskSettings, claims
from darkroom.tasks.adapters import LoraOffer
from darkroom.tasks.catalogue import ModelOffer, builtin_catalogue
from darkroom.tasks.models import Market
from tests.integration.hand import Hand
from tests.toys import later_release

OFFER = builtin_catalogue()["sdxl"].offer().model_copy(update={"name": "ours"})


class Square:
    """Workers that say what they have, of this release or of the first, and a producer of a later one."""

    def __init__(self, client: Darkroom, hand: Hand, raw: "redis.Redis[str]", prefix: str) -> None:
        self.client, self.hand, self.raw, self.prefix = client, hand, raw, prefix

    def serve(self, worker: str, *has: str, **limits: Any) -> None:
        offer = OFFER.model_copy(update={"limits": OFFER.limits.model_copy(update=limits)})
        self.hand.io.run(claims.serve(worker, {}, 60, [offer], {"ours": has}))

    def serve_as_before(self, worker: str) -> None:
        """As the first release's script does."""
        self.raw.set(f"{self.prefix}worker:{worker}", json.dumps({"models": ["ours"]}))
        self.raw.hset(f"{self.prefix}models", "ours", OFFER.model_dump_json())
        self.raw.zadd(f"{self.prefix}serving:ours", {worker: self.hand.now() + 60_000})

    def retire(self, worker: str) -> None:
        self.hand.io.run(claims.retire(worker, ["ours"]))

    def market(self) -> Market:
        return self.client.models()

    def warnings(self, **fields: Any) -> list[str]:
        self.market()
        return self.client.submit({"prompt": "a cat", "model": "ours", **fields}).warnings


@pytest.fixture
def square(task_settings: TaskSettings, hand: Hand, raw: "redis.Redis[str]") -> Iterator[Square]:
    with later_release(), Darkroom(task_settings) as client:
        yield Square(client, hand, raw, task_settings.redis_prefix)


def test_the_last_workers_word_does_not_win(square: Square) -> None:
    square.serve("a", "glow", "tags")
    square.serve("b")
    market = square.market()
    assert (market.workers["ours"], market.has("ours")) == (2, ["glow", "tags"])
    assert market.can("ours") and market.can("ours", ["glow", "tags"])
    square.retire("a")
    assert not square.market().can("ours", ["glow"])


def test_what_no_single_worker_has_nobody_can_do(square: Square) -> None:
    square.serve("a", "glow")
    square.serve("b", "tags")
    assert square.warnings(glow=1) == []
    assert square.warnings(tags=["x"]) == []
    assert square.warnings(glow=1, tags=["x"]) == ["no_worker"]


def test_a_job_that_nobody_can_do_waits_and_stops_nobody(square: Square) -> None:
    square.serve("a")
    assert square.warnings(glow=1) == ["no_worker"]
    assert square.warnings() == []
    square.serve("b", "glow")
    assert square.warnings(glow=1) == []


def test_limits_are_those_that_every_worker_there_has(square: Square) -> None:
    square.serve("a", max_steps=60)
    square.serve("b", max_images=2)
    limits = square.market().offers["ours"].limits
    assert (limits.max_steps, limits.max_images) == (60, 2)
    with pytest.raises(InvalidRequest, match="at most 60"):
        square.warnings(num_inference_steps=61)
    square.retire("a")
    assert square.market().offers["ours"].limits.max_steps == OFFER.limits.max_steps


def test_a_worker_of_the_first_release_has_nothing_more(square: Square) -> None:
    square.serve_as_before("old")
    assert square.market().can("ours")
    assert square.warnings() == []
    assert square.warnings(glow=1) == ["no_worker"]
    assert square.warnings(kind="toy", wheels=4) == ["no_worker"]
    square.serve("new", "glow")
    assert square.warnings(glow=1) == []


def test_beside_a_worker_of_the_first_release_its_last_word_counts_too(square: Square) -> None:
    square.serve("new", "glow", max_steps=60)
    square.serve_as_before("old")
    assert square.market().offers["ours"].limits.max_steps == 60


def test_a_model_that_nobody_serves_any_more_is_offered_in_full(square: Square) -> None:
    square.serve("new", "glow", max_steps=60)
    square.retire("new")
    assert square.market().offers["ours"].limits.max_steps == 60
    assert square.warnings(glow=1) == ["no_worker"]


def test_a_producer_of_the_first_release_reads_what_is_published(square: Square) -> None:
    square.serve("new", "glow", max_steps=60)
    (text,) = square.raw.hvals(f"{square.prefix}models")
    assert ModelOffer.model_validate_json(text).limits.max_steps == 60


def test_loras_are_those_that_all_have_who_know_them(square: Square) -> None:
    def serve(worker: str, *has: str, **digests: str) -> None:
        found = [LoraOffer(name=name, sha256=digest * 64, rank=8) for name, digest in digests.items()]
        square.hand.io.run(claims.serve(worker, {}, 60, [OFFER.model_copy(update={"loras": found})], {"ours": has}))

    def there() -> list[str]:
        return [lora.name for lora in square.market().offers["ours"].loras]

    serve("a", "loras", pen="a", ink="b")
    assert there() == ["pen", "ink"]
    serve("b", "glow")
    square.serve_as_before("old")
    assert there() == ["pen", "ink"]
    serve("c", "loras", pen="a", ink="c")
    assert there() == ["pen"]
    for worker in "abc":
        square.retire(worker)
    square.hand.io.run(claims.retire("old", ["ours"]))
    assert there() == ["pen", "ink"]  # as the last of them said it, for jobs that wait


def test_a_model_with_a_base_is_meant_by_its_name_alone(square: Square) -> None:
    quick = OFFER.model_copy(update={"name": "quick", "base": "ours"})
    square.hand.io.run(claims.serve("a", {}, 60, [OFFER, quick], {}))
    market = square.market()
    assert market.workers == {"ours": 1, "quick": 1}
    assert market.sole_model() == "ours"
    assert square.client.submit({"prompt": "a cat", "model": "quick"}).warnings == []
    assert square.client.submit({"prompt": "a cat"}).submitted.model == "ours"
    square.hand.io.run(claims.retire("a", ["ours", "quick"]))
    square.hand.io.run(claims.serve("b", {}, 60, [quick], {}))
    assert square.market().sole_model() is None
    with pytest.raises(InvalidRequest, match="what is served is meant by its name alone: quick"):
        square.client.submit({"prompt": "a cat"})


def test_the_first_release_does_not_count_a_model_with_a_base(square: Square) -> None:
    """It looks for the workers of a model under this name."""
    quick = OFFER.model_copy(update={"name": "quick", "base": "ours"})
    square.hand.io.run(claims.serve("a", {}, 60, [OFFER, quick], {}))
    counted = {
        name
        for name in square.raw.hkeys(f"{square.prefix}models")
        if square.raw.zcard(f"{square.prefix}serving:{name}")
    }
    assert counted == {"ours"}
    text = square.raw.hget(f"{square.prefix}models", "quick")
    assert ModelOffer.model_validate_json(text or "").name == "quick"


@pytest.mark.parametrize(
    "word", ["", "[]", "7", '{"serves": 1}', '{"serves": {"ours": 5}}', '{"serves": {"ours": "{"}}']
)
def test_a_word_that_cannot_be_read_is_one_that_says_nothing(square: Square, word: str) -> None:
    square.serve("a", "glow")
    square.raw.set(f"{square.prefix}worker:a", word)
    market = square.market()
    assert (market.workers["ours"], market.has("ours"), market.can("ours")) == (1, [], True)
