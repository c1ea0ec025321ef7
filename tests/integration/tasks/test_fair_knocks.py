"""Whatever lets a job start knocks in the same script; and a claim whose answer is lost takes no second job."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from darkroom.tasks import JobError, claims
from darkroom.tasks.claims import Claim, Refusal

from .floor import Floor

PASSES = JobError(code="device_broken", message="m", hint="h", retryable=True)


def at_its_limit(floor: Floor) -> Claim:
    """One of a tenant's two jobs runs, it may run no more, and no knock lies."""
    floor.client.set_limits("a", max_running=1)
    floor.submit("a", 2)
    claim = floor.take().claim
    assert isinstance(floor.ask(), Refusal)
    floor.forget_knocks()
    return claim


ENDS: dict[str, Callable[[Floor, Claim], object]] = {
    "succeed": lambda floor, claim: floor.end(floor.starts[-1]),
    "fail": lambda floor, claim: floor.io.run(claims.fail(claim, PASSES.model_copy(update={"retryable": False}),
                                                          floor.rules)),
    "retry": lambda floor, claim: floor.io.run(claims.fail(claim, PASSES, floor.rules)),
    "hand_back": lambda floor, claim: floor.io.run(claims.hand_back(claim, floor.rules)),
    "cancel": lambda floor, claim: floor.io.run(claims.confirm_cancel(claim, floor.rules)),
    "limit": lambda floor, claim: floor.client.set_limits("a", max_running=2),
    "no_limit": lambda floor, claim: floor.client.set_limits("a"),
}  # fmt: skip


@pytest.mark.parametrize("what", ENDS)
def test_what_frees_a_tenant_knocks(floor: Floor, what: str) -> None:
    claim = at_its_limit(floor)
    ENDS[what](floor, claim)
    assert floor.knocks()
    assert floor.take().tenant == "a"


def test_what_frees_a_user_knocks(floor: Floor) -> None:
    floor.client.set_limits("a", user_max_running=1)
    floor.submit("a", 2, user="u")
    start = floor.take()
    floor.forget_knocks()
    floor.end(start)
    assert list(floor.raw.scan_iter(floor.key("queue", "*")))
    assert floor.take().user == "u"


@pytest.mark.parametrize(("what", "name"), [("tenant", "a"), ("model", "sdxl")])
def test_resume_knocks(floor: Floor, what: str, name: str) -> None:
    floor.submit("a", 2)
    floor.client.pause(what, name)  # type: ignore[arg-type]
    assert isinstance(floor.ask(), Refusal)
    floor.forget_knocks()
    floor.client.resume(what, name)  # type: ignore[arg-type]
    assert floor.knocks()
    assert floor.take().tenant == "a"


def test_a_delay_that_is_over_knocks(floor: Floor) -> None:
    floor.submit("a")
    claim = floor.take().claim
    floor.io.run(claims.fail(claim, PASSES, floor.rules))
    assert isinstance(floor.ask(), Refusal)
    floor.forget_knocks()
    floor.pass_time(600)
    (found,) = floor.io.run(claims.overdue(10))
    assert not floor.knocks()
    assert floor.io.run(claims.requeue(found, floor.rules)) == "let_in"
    assert floor.knocks()
    assert floor.take().id == claim.job_id


@pytest.mark.parametrize(("what", "name"), [("tenant", "a"), ("model", "sdxl")])
def test_deadlines_hold_through_a_pause_of_a_month(floor: Floor, what: str, name: str) -> None:
    """And what runs goes on."""
    soon, later = (floor.clock + timedelta(days=days) for days in (1, 2))
    (runs,) = floor.submit("a")
    start = floor.take()
    (late,) = floor.submit("a", start_by=soon.isoformat())
    (undone,) = floor.submit("a", finish_by=later.isoformat())
    floor.client.pause(what, name)  # type: ignore[arg-type]
    floor.end(start)
    assert floor.client.get(runs).state == "succeeded"
    floor.pass_time(29 * 24 * 3600)
    for found in floor.io.run(claims.overdue(10)):
        floor.io.run(claims.requeue(found, floor.rules))
    assert [floor.client.get(one).state for one in (late, undone)] == ["expired", "expired"]


def test_each_answer_of_a_claim_is_lost_once(floor: Floor) -> None:
    """Asked again under its token a claim has the job that it took: none is taken twice, and none is left behind."""
    ids = [one for i in range(6) for one in floor.submit(f"t{i}", 40, user=f"u{i % 2}")]
    took = []
    for number in range(len(ids)):
        first = floor.ask(token=f"token-{number}")
        start = floor.take(token=f"token-{number}")
        assert isinstance(first, Claim)
        assert first.job_id == start.id
        took.append(start)
        if number % 3:
            floor.end(took.pop(0))
    for start in took:
        floor.end(start)
    assert isinstance(floor.ask(token="one more"), Refusal)
    assert sorted(one.id for one in floor.starts) == sorted(ids)
    jobs = [floor.client.get(one) for one in ids]
    assert {(job.state, len(job.attempts)) for job in jobs} == {("succeeded", 0)}


@pytest.mark.parametrize("stale", ["deleted", "another type"])
def test_what_is_stale_stops_no_claim(floor: Floor, stale: str) -> None:
    gone = floor.submit("a", 100)
    (left,) = floor.submit("b")
    if stale == "deleted":
        for job_id in gone:
            floor.raw.delete(floor.key("job", job_id))
    else:
        key = floor.key("wait", "sdxl:interactive", "a", "")
        assert floor.raw.delete(key)
        floor.raw.set(key, "no set")
    found = [one for one in (floor.ask() for _ in range(4)) if isinstance(one, Claim)]
    assert [one.job_id for one in found] == [left]
