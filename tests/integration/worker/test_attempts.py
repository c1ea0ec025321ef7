"""Leases, progress and presence, with a real server and no model."""

import signal
import time
from collections.abc import Iterator

import pytest
import redis
import torch
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.tasks import Darkroom, TaskSettings
from darkroom.tasks import claims as c
from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.tasks.claims import Claim
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.word import is_watched, leave_word
from darkroom.worker.delivery import publisher
from darkroom.worker.delivery.attempt import Attempt, Canceled, LeaseLost
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.delivery.publisher import ProgressPublisher
from darkroom.worker.models.previews import Snapshot
from darkroom.worker.process.presence import Presence
from tests.integration.hand import RULES, Hand

LATENTS = torch.zeros(1, 4, 8, 8)


def small(_: torch.Tensor) -> bytes:
    """A preview."""
    return b"small picture"


@pytest.fixture
def io(task_settings: TaskSettings) -> Iterator[BlockingIO]:
    io = BlockingIO(task_settings)
    yield io
    io.close()


@pytest.fixture
def client(task_settings: TaskSettings) -> Iterator[Darkroom]:
    with Darkroom(task_settings) as client:
        yield client


@pytest.fixture
def unwatched(client: Darkroom, io: BlockingIO) -> Claim:
    return Hand(io).claim(client.submit({"prompt": "a cat", "model": "sdxl", "num_images": 2}).id)


@pytest.fixture
def claim(client: Darkroom, io: BlockingIO) -> Claim:
    """Of a job that somebody watches."""
    job_id = client.submit({"prompt": "a cat", "model": "sdxl", "num_images": 2}).id
    io.run(leave_word([job_id]))
    return Hand(io).claim(job_id)


@pytest.fixture
def away() -> Iterator[tuple[LocalServer, BlockingIO]]:
    """A server that was stopped, and a connection that is not patient with it."""
    with LocalServer() as server:
        assert server.process
        server.process.send_signal(signal.SIGSTOP)
        io = BlockingIO(TaskSettings(redis_url=SecretStr(server.url), redis_timeout=0.1))
        yield server, io
        io.close()
        server.process.send_signal(signal.SIGCONT)


def lose(io: BlockingIO, raw: "redis.Redis[str]", claim: Claim, settings: TaskSettings) -> None:
    """Another worker takes the job."""
    raw.zadd(f"{settings.redis_prefix}leases", {claim.job_id: 0})
    Hand(io).claim(claim.job_id)


def test_the_thread_renews_and_hears_of_cancels(
    client: Darkroom, io: BlockingIO, claim: Claim, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    leases, keeper = f"{task_settings.redis_prefix}leases", LeaseKeeper(io, 600, RULES)
    before = raw.zscore(leases, claim.job_id) or 0
    keeper.start()
    with keeper.hold(claim) as attempt:
        client.cancel(claim.job_id)
        with pytest.raises(Canceled):
            check_for(10, attempt)
    assert (raw.zscore(leases, claim.job_id) or 0) > before + 500_000
    keeper.close()


def check_for(seconds: float, attempt: Attempt) -> None:
    """As a job does that takes many steps."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        attempt.check()


def test_a_check_reads_memory_only(claim: Claim, away: tuple[LocalServer, BlockingIO]) -> None:
    keeper = LeaseKeeper(away[1], 60, RULES)
    with keeper.hold(claim) as attempt:
        began = time.monotonic()
        for _ in range(1000):
            attempt.check()
        assert time.monotonic() - began < 10  # a thousand questions would have taken ten times as long


def test_after_a_silence_redis_is_asked(
    io: BlockingIO, claim: Claim, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    """As a process that was frozen past its lease does at its next step."""
    keeper = LeaseKeeper(io, 0, RULES)
    with keeper.hold(claim) as attempt:
        lose(io, raw, claim, task_settings)
        with pytest.raises(LeaseLost):
            attempt.check()


def test_without_redis_the_attempt_goes_on(claim: Claim, away: tuple[LocalServer, BlockingIO]) -> None:
    keeper = LeaseKeeper(away[1], 0, RULES)
    with keeper.hold(claim) as attempt:
        attempt.check()


def test_a_loss_outweighs_a_cancel(io: BlockingIO, claim: Claim) -> None:
    with LeaseKeeper(io, 60, RULES).hold(claim) as attempt:
        attempt.heard(c.Hold.CANCEL)
        attempt.heard(c.Hold.HELD)
        with pytest.raises(Canceled):
            attempt.check()
        attempt.heard(c.Hold.LOST)
        attempt.heard(c.Hold.CANCEL)
        with pytest.raises(LeaseLost):
            attempt.check()


def test_an_attempt_that_is_over_is_not_renewed(
    io: BlockingIO, claim: Claim, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    keeper = LeaseKeeper(io, 60, RULES)
    with keeper.hold(claim):
        pass
    before = raw.zscore(f"{task_settings.redis_prefix}leases", claim.job_id)
    keeper.renew()
    assert raw.zscore(f"{task_settings.redis_prefix}leases", claim.job_id) == before


def steps(client: Darkroom, claim: Claim) -> list[dict[str, object]]:
    return [event.data for event in client.watch(claim.job_id) if event.type == "job.progress"]


def test_many_steps_are_few_events_and_the_last_is_among_them(client: Darkroom, io: BlockingIO, claim: Claim) -> None:
    with LeaseKeeper(io, 60, RULES).hold(claim) as attempt:
        telling = ProgressPublisher(io, attempt, 0, lambda _: pytest.fail("no preview was asked for"))
        for image in (0, 1):
            for step in range(1, 201):
                telling.step(image, step, 200, LATENTS)
    Hand(io).succeed(claim)
    told = steps(client, claim)
    assert {"image": 0, "step": 200, "of": 200, "preview": False} in told
    assert told[-1] == {"image": 1, "step": 200, "of": 200, "preview": False}
    assert len(told) < 100


def test_of_an_unwatched_job_the_renewal_alone_tells(
    client: Darkroom, io: BlockingIO, unwatched: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "STEP_SECONDS", 0.0)
    keeper = LeaseKeeper(io, 60, RULES)
    with keeper.hold(unwatched) as attempt:
        telling = ProgressPublisher(io, attempt, 0.001, lambda _: pytest.fail("nobody would see a preview"))
        for step in range(1, 201):
            telling.step(0, step, 200, LATENTS)
        keeper.renew()
        progress = client.get(unwatched.job_id).progress
        assert progress and (progress.image, progress.step, progress.of) == (0, 200, 200)
        assert not attempt.watched
        io.run(leave_word([unwatched.job_id]))
        keeper.renew()
        assert attempt.watched
    Hand(io).succeed(unwatched)
    assert steps(client, unwatched) == [{"image": 0, "step": 200, "of": 200, "preview": False}]


def test_who_comes_just_after_the_claim_is_asked_for(
    client: Darkroom, io: BlockingIO, unwatched: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: later ones are heard of by the renewal."""
    asked: list[str] = []
    monkeypatch.setattr(publisher, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(publisher, "is_watched", lambda job_id: asked.append(job_id) or is_watched(job_id))
    with LeaseKeeper(io, 60, RULES).hold(unwatched) as attempt:
        telling = ProgressPublisher(io, attempt, 0, small)
        telling.step(0, 1, 4, LATENTS)
        telling.step(0, 2, 4, LATENTS)
        assert (asked, attempt.watched) == ([unwatched.job_id], False)
        io.run(leave_word([unwatched.job_id]))
        ProgressPublisher(io, attempt, 0, small).step(0, 3, 4, LATENTS)
    Hand(io).succeed(unwatched)
    assert [step["step"] for step in steps(client, unwatched)] == [3]


def test_a_training_is_told_of_whether_it_is_watched_or_not(
    client: Darkroom, io: BlockingIO, unwatched: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "STEP_SECONDS", 0.0)
    with LeaseKeeper(io, 60, RULES).hold(unwatched) as attempt:
        telling = ProgressPublisher(io, attempt, 0.001, lambda _: pytest.fail("nobody would see a preview"))
        while time.monotonic() < telling._next_preview:
            pass
        telling.report(4, 4, {"loss": 0.5})
        telling.sampling(4, 4, 1, 1, LATENTS)
    Hand(io).succeed(unwatched)
    assert [sorted(step) for step in steps(client, unwatched)] == [
        ["image", "loss", "of", "preview", "step"], ["image", "of", "preview", "sample", "samples", "step"]
    ]  # fmt: skip


def test_previews_come_when_they_are_due(
    client: Darkroom, io: BlockingIO, claim: Claim, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    with LeaseKeeper(io, 60, RULES).hold(claim) as attempt:
        telling = ProgressPublisher(io, attempt, 0.001, small)
        while time.monotonic() < telling._next_preview:
            pass
        telling.step(0, 4, 4, LATENTS)
    assert raw.get(f"{task_settings.redis_prefix}preview:{claim.job_id}") == "small picture"
    Hand(io).succeed(claim)
    assert steps(client, claim)[-1]["preview"] is True


def test_a_preview_that_the_device_has_not_made_yet_comes_with_a_later_step(
    client: Darkroom, io: BlockingIO, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = iter([False, False, True])
    monkeypatch.setattr(Snapshot, "here", property(lambda _: next(there)))
    shown: list[float] = []

    def preview(latents: torch.Tensor) -> bytes:
        shown.append(float(latents.max()))
        return b"small picture"

    with LeaseKeeper(io, 60, RULES).hold(claim) as attempt:
        telling = ProgressPublisher(io, attempt, 0.001, preview)
        while time.monotonic() < telling._next_preview:
            pass
        for image, latents in ((0, LATENTS), (1, LATENTS + 1), (0, LATENTS + 2)):
            telling.step(image, 4, 4, latents)  # a last step, which is always told
    Hand(io).succeed(claim)
    assert [step["preview"] for step in steps(client, claim)] == [False, False, True]
    assert shown == [0.0]  # image 0 as it was when it was asked for


def test_a_step_hears_of_a_cancel_at_once(client: Darkroom, io: BlockingIO, claim: Claim) -> None:
    with LeaseKeeper(io, 60, RULES).hold(claim) as attempt:
        client.cancel(claim.job_id)
        with pytest.raises(Canceled):
            ProgressPublisher(io, attempt, 0, small).step(0, 1, 4, LATENTS)


def test_a_step_hears_of_a_loss_at_once(
    io: BlockingIO, claim: Claim, raw: "redis.Redis[str]", task_settings: TaskSettings
) -> None:
    with LeaseKeeper(io, 60, RULES).hold(claim) as attempt:
        lose(io, raw, claim, task_settings)
        with pytest.raises(LeaseLost):
            ProgressPublisher(io, attempt, 0, small).step(0, 1, 4, LATENTS)


def test_progress_is_a_courtesy(claim: Claim, away: tuple[LocalServer, BlockingIO]) -> None:
    """A Redis that is away is asked once, and then left alone for a while."""
    with LeaseKeeper(away[1], 60, RULES).hold(claim) as attempt:
        telling = ProgressPublisher(away[1], attempt, 0, small)
        telling.step(0, 1, 1000, LATENTS)
        began = time.monotonic()
        for step in range(2, 1000):
            telling.step(0, step, 1000, LATENTS)
        assert time.monotonic() - began < 10


def test_a_worker_is_known_from_its_readiness_to_its_end(client: Darkroom, io: BlockingIO) -> None:
    offer = builtin_catalogue()["sd-1.5"].offer().model_copy(update={"name": "mine"})
    presence = Presence(io, "w1", [offer], {"device": "cpu"})
    presence.beat()
    assert client.models().workers == {}
    presence.begin()
    market = client.models()
    assert (market.workers, market.offers["mine"]) == ({"mine": 1}, offer)
    presence.retire()
    presence.beat()
    assert client.models().workers == {"mine": 0}
    assert client.models().offers["mine"] == offer  # it may still be asked for, with the warning no_worker


def test_two_workers_of_one_model(client: Darkroom, io: BlockingIO) -> None:
    offer = builtin_catalogue()["sd-1.5"].offer()
    one, two = Presence(io, "w1", [offer], {}), Presence(io, "w2", [offer], {})
    one.begin()
    two.begin()
    assert client.models().workers == {"sd-1.5": 2}
    one.retire()
    assert client.models().workers == {"sd-1.5": 1}


def test_readiness_without_redis_raises_nothing(away: tuple[LocalServer, BlockingIO]) -> None:
    presence = Presence(away[1], "w1", [builtin_catalogue()["sd-1.5"].offer()], {})
    presence.begin()
    presence.retire()
