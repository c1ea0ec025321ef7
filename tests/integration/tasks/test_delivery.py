"""The life of a job when things go wrong: retries, losses, deadlines, limits, and how long keys live."""

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import redis

from darkroom.tasks import Darkroom, Job, JobError, JobNotFound, QueueFull, State, TaskSettings
from darkroom.tasks import claims as c
from darkroom.tasks.claims import Claim, Overdue, Refusal
from darkroom.tasks.places import Place
from darkroom.tasks.reconcile import walk_all
from darkroom.worker.delivery.janitor import sweep
from tests.integration.hand import RESULT, RULES, Hand

PASSING = JobError(code="storage_unavailable", message="away", retryable=True)
OURS = JobError(code="internal_error", message="oh")
THEIRS = JobError(code="input_corrupt", message="no picture", callers_fault=True)


class Counter:
    """A client, a worker's hand, and time that goes as the test says."""

    def __init__(self, client: Darkroom, hand: Hand, raw: "redis.Redis[str]", prefix: str) -> None:
        self.client, self.hand, self.raw, self.prefix = client, hand, raw, prefix

    def submit(self, **fields: object) -> str:
        return self.client.submit({"prompt": "a cat", "model": "sdxl", **fields}).id

    def get(self, job_id: str) -> Job:
        return self.client.get(job_id)

    def types(self, job_id: str) -> list[str]:
        return [event.type for event in self.client.watch(job_id)]

    def fail(self, job_id: str, error: JobError) -> Job:
        assert self.hand.io.run(c.fail(self.hand.claim(job_id), error, RULES))
        return self.get(job_id)

    def come_due(self, key: str, job_id: str) -> None:
        """The moment that the set keeps for the job has passed."""
        assert self.raw.zscore(f"{self.prefix}{key}", job_id)
        self.raw.zadd(f"{self.prefix}{key}", {job_id: 1})

    def janitor(self) -> dict[str, str]:
        found = self.hand.io.run(c.overdue(100))
        return {one.job_id: self.hand.io.run(c.requeue(one, RULES)) for one in found}

    def take(self) -> str | None:
        """A job is taken by turn, and done; its id."""
        places = [Place("sdxl", "interactive"), Place("sdxl", "bulk")]
        found = self.hand.io.run(c.claim_next(places, "w", 60, RULES, {"sdxl": ()}))
        return found.job_id if isinstance(found, Claim) and self.hand.succeed(found) else None

    def lose(self, job_id: str, worker: str) -> str:
        """A worker takes the job and is never heard of again; what the janitor makes of it."""
        claiming = c.claim(job_id, worker, 0, RULES)
        assert isinstance(self.hand.io.run(claiming), Claim)
        return self.hand.io.run(c.requeue(Overdue(job_id, "sdxl:interactive", "lease_expired"), RULES))


@pytest.fixture
def counter(task_settings: TaskSettings, hand: Hand, raw: "redis.Redis[str]") -> Iterator[Counter]:
    hand.serve()
    with Darkroom(task_settings) as client:
        yield Counter(client, hand, raw, task_settings.redis_prefix)


def test_what_may_pass_is_tried_three_times_and_its_story_is_told(counter: Counter) -> None:
    job_id = counter.submit()
    for tries in (1, 2):
        job = counter.fail(job_id, PASSING)
        assert (job.state, job.failures, job.error) == (State.QUEUED, tries, None)
        assert counter.hand.refused(job_id) == "delayed"  # a knock of before does not make it sooner
        assert counter.janitor() == {}
        counter.come_due("delayed", job_id)
        assert counter.janitor() == {job_id: "let_in"}
    job = counter.fail(job_id, PASSING)
    assert (job.state, job.failures, job.error) == (State.FAILED, 3, PASSING)
    assert [(note.claim, note.worker, note.error) for note in job.attempts] == [(n, "w", PASSING) for n in (1, 2, 3)]
    assert [one.id for one in counter.client.dead()] == [job_id]
    assert counter.types(job_id).count("job.failed") == 1


def test_backoff_grows_and_is_not_the_same_for_all() -> None:
    for failures, most in ((0, 2), (1, 8), (2, 32), (9, 300)):
        waits = {c.backoff(failures, 2) for _ in range(50)}
        assert len(waits) > 1
        assert most / 2 <= min(waits) <= max(waits) <= most


def test_a_fault_of_ours_is_not_tried_again_and_one_of_the_callers_is_no_dead_letter(counter: Counter) -> None:
    ours, theirs = counter.submit(), counter.submit()
    assert counter.fail(ours, OURS).state is State.FAILED
    assert counter.fail(theirs, THEIRS).state is State.FAILED
    assert [job.id for job in counter.client.dead()] == [ours]


def test_dead_letters_are_tried_again_as_new_jobs_or_dropped(counter: Counter) -> None:
    first, second = (counter.submit(num_images=2, idempotency_key=key) for key in "ab")
    for job_id in (first, second):
        counter.fail(job_id, OURS)
    again = counter.client.retry(first)
    assert (again.id != first, again.seeds) == (True, counter.get(first).seeds)
    assert counter.client.drop(second) is True
    assert counter.client.drop(second) is False
    assert counter.client.dead() == []
    assert counter.get(second).state is State.FAILED


def test_a_job_that_takes_two_workers_with_it_takes_no_third(counter: Counter) -> None:
    job_id = counter.submit()
    assert counter.lose(job_id, "one") == "queued"
    assert counter.lose(job_id, "two") == "queued"  # for a last run alone (test_suspects.py)
    counter.come_due("delayed", job_id)
    assert counter.janitor() == {job_id: "let_in"}
    assert counter.lose(job_id, "three") == "failed"
    job = counter.get(job_id)
    assert job.error is not None and job.error.code == "worker_lost" and "last run" in job.error.message
    assert [note.worker for note in job.attempts] == ["one", "two", "three"]
    assert [dead.id for dead in counter.client.dead()] == [job_id]


def test_where_workers_die_without_it_the_job_is_not_to_blame(counter: Counter) -> None:
    for number in range(10):
        assert counter.lose(counter.submit(), f"other {number}") == "queued"
    job_id = counter.submit()
    lost = [counter.lose(job_id, f"mine {number}") for number in range(6)]
    assert lost == ["queued"] * 6
    assert counter.get(job_id).failures == 0


def test_ten_losses_are_too_many_whoever_is_to_blame(counter: Counter) -> None:
    counter.raw.zadd(f"{counter.prefix}deaths", {f"other {number}": 1e13 for number in range(50)})
    job_id = counter.submit()
    assert [counter.lose(job_id, f"mine {number}") for number in range(10)] == ["queued"] * 10
    assert counter.hand.refused(job_id) == "delayed"  # it waits for its last run


def test_a_worker_that_falls_silent_without_a_job_counts_as_dead(counter: Counter) -> None:
    for worker in ("idle", "other"):
        counter.hand.io.run(c.serve(worker, {}, 60, [counter.hand.serve()]))
    counter.raw.zadd(f"{counter.prefix}serving:sdxl", {"idle": 1, "w": 1})
    counter.hand.serve()  # as "w"
    assert counter.raw.zrange(f"{counter.prefix}deaths", 0, -1) == ["idle"]


def test_deaths_are_forgotten(counter: Counter) -> None:
    counter.raw.zadd(f"{counter.prefix}deaths", {f"old {number}": 1 for number in range(50)})
    job_id = counter.submit()
    assert [counter.lose(job_id, name) for name in ("one", "two")] == ["queued", "queued"]
    assert counter.hand.refused(job_id) == "delayed"  # it is to blame, and waits for its last run
    assert 0 < counter.raw.ttl(f"{counter.prefix}deaths") <= 600


def test_a_claim_whose_answer_was_lost_is_asked_for_again(counter: Counter) -> None:
    job_id = counter.submit()
    first, second = (counter.hand.io.run(c.claim(job_id, "w", 60, RULES, token="t")) for _ in range(2))
    assert first == second
    assert counter.get(job_id).claims == 1
    assert counter.hand.succeed(counter.hand.io.run(c.claim(job_id, "w", 60, RULES, token="t")))
    assert counter.types(job_id) == ["job.queued", "job.started", "job.succeeded"]


def test_a_job_that_is_handed_back_goes_first_and_lost_nothing(counter: Counter) -> None:
    job_id, other = counter.submit(), counter.submit()
    held = counter.hand.claim(job_id)
    assert counter.hand.io.run(c.hand_back(held, RULES)) is True
    assert counter.hand.io.run(c.hand_back(held, RULES)) is False
    assert counter.client.position(job_id) == (0, None)
    assert counter.client.position(other) == (1, None)
    again = counter.hand.claim(job_id)
    assert (again.number, again.failures) == (2, 0)


@pytest.mark.parametrize("how", ["queued", "waiting to be tried again", "lease over"])
def test_a_job_that_nobody_works_on_is_canceled_at_once(counter: Counter, how: str) -> None:
    job_id = counter.submit()
    if how == "waiting to be tried again":
        counter.fail(job_id, PASSING)
    elif how == "lease over":
        counter.hand.claim(job_id, lease=0)
    assert counter.client.cancel(job_id) == "canceled"
    assert counter.hand.refused(job_id) == "canceled"
    assert counter.janitor() == {}
    assert counter.client.cancel(job_id) == "already_finished"


def test_the_answers_to_a_cancel(counter: Counter) -> None:
    job_id, neighbour = counter.submit(), counter.submit()
    held, other = counter.hand.claim(job_id), counter.hand.claim(neighbour)
    assert counter.client.cancel(job_id) == "cancellation_requested"
    assert counter.client.cancel(job_id) == "cancellation_requested"
    assert counter.hand.io.run(c.renew([held, other], 60)) == [c.Hold.CANCEL, c.Hold.HELD]
    assert counter.hand.succeed(held)  # its last picture was on its way: the record says which
    assert counter.get(job_id).state is State.SUCCEEDED
    assert counter.client.cancel(job_id) == "already_finished"
    assert counter.client.cancel("0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89") == "not_found"


def test_a_canceled_job_whose_attempt_fails_is_not_tried_again(counter: Counter) -> None:
    job_id = counter.submit()
    held = counter.hand.claim(job_id)
    counter.client.cancel(job_id)
    assert counter.hand.io.run(c.fail(held, PASSING, RULES))
    assert counter.get(job_id).state is State.CANCELED


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize("deadline", ["start_by", "finish_by"])
@pytest.mark.parametrize("whoever", ["janitor", "claim"])
def test_a_deadline_that_passes_in_the_queue(counter: Counter, deadline: str, whoever: str) -> None:
    job_id, other = counter.submit(**{deadline: soon(-1)}), counter.submit(**{deadline: soon(600)})
    if whoever == "janitor":
        assert counter.janitor() == {job_id: "expired"}
    else:
        assert counter.hand.refused(job_id) == "expired"
    assert counter.types(job_id) == ["job.queued", "job.expired"]
    assert list(counter.client.watch(job_id))[-1].data == {"deadline": deadline}
    assert counter.get(other).state is State.QUEUED


def test_a_job_that_was_started_in_time_keeps_its_start_by(counter: Counter) -> None:
    job_id = counter.submit(start_by=soon(600))
    held = counter.hand.claim(job_id)
    counter.raw.hset(f"{counter.prefix}job:{job_id}", "start_by", 1)
    assert counter.hand.io.run(c.renew([held], 60)) == [c.Hold.HELD]
    counter.hand.io.run(c.hand_back(held, RULES))
    assert counter.janitor() == {}
    assert counter.hand.claim(job_id).number == 2


def test_a_running_job_hears_of_its_deadline(counter: Counter) -> None:
    job_id = counter.submit(finish_by=soon(600))
    held = counter.hand.claim(job_id)
    counter.raw.hset(f"{counter.prefix}job:{job_id}", "finish_by", 1)
    assert counter.hand.io.run(c.renew([held], 60)) == [c.Hold.EXPIRED]
    assert counter.hand.io.run(c.confirm_expired(held, RULES))
    assert counter.types(job_id)[-1] == "job.expired"


def test_no_job_waits_for_ever(task_settings: TaskSettings, counter: Counter) -> None:
    with Darkroom(task_settings.model_copy(update={"job_ttl": -1})) as hasty:
        job_id = hasty.submit({"prompt": "a cat", "model": "sdxl"}).id
    assert counter.janitor() == {job_id: "expired"}


def test_a_full_lane_refuses_and_says_so(task_settings: TaskSettings, counter: Counter) -> None:
    with Darkroom(task_settings.model_copy(update={"queue_limit": 2})) as client:
        ids = [client.submit({"prompt": "a cat", "model": "sdxl", "tenant": tenant}).id for tenant in "ab"]
        with pytest.raises(QueueFull, match="2 jobs wait"):
            client.submit({"prompt": "a cat", "model": "sdxl"})
        client.cancel(ids[0])
        client.submit({"prompt": "a cat", "model": "sdxl"})
        with pytest.raises(QueueFull):
            client.submit({"prompt": "a cat", "model": "sdxl"})
        client.submit({"prompt": "a cat", "model": "sdxl", "lane": "bulk", "tenant": "c"})


def test_jobs_that_need_something_count_with_those_of_their_lane(
    task_settings: TaskSettings, raw: "redis.Redis[str]"
) -> None:
    plain = {"prompt": "a cat", "model": "sdxl"}
    raw.set(f"{task_settings.redis_prefix}queued:sdxl.NEEDS.garbage:interactive", "of another type")
    raw.sadd(f"{task_settings.redis_prefix}lanes", "sdxl.NEEDS.garbage:interactive")
    with Darkroom(task_settings.model_copy(update={"queue_limit": 2})) as client:
        client.submit({**plain, "hires": {"scale": 1.5}})
        client.submit({**plain, "clip_skip": 1, "tenant": "b"})
        for fields in (plain, {**plain, "hires": {"scale": 1.5}}, {**plain, "kind": "embed"}):
            with pytest.raises(QueueFull, match="2 jobs wait"):
                client.submit(fields)
        client.submit({**plain, "lane": "bulk", "clip_skip": 1, "tenant": "c"})
        client.submit({**plain, "model": "playground-v2.5", "tenant": "d"})


LASTING = {"offers", "clock", "marks", "lanes", "models", "paces"}  # a few fields each, however many jobs there were


def test_every_key_of_a_job_that_ended_has_a_lifetime(counter: Counter) -> None:
    succeeded, failed, canceled, expired, lost = (counter.submit(tenant="acme") for _ in range(5))
    counter.hand.run(succeeded)
    counter.fail(failed, OURS)
    counter.client.cancel(canceled)
    counter.raw.hset(f"{counter.prefix}job:{expired}", "finish_by", 1)
    assert counter.hand.refused(expired) == "expired"
    counter.raw.hset(f"{counter.prefix}job:{lost}", "suspect", "had")  # its last run
    for worker in ("one", "two"):
        counter.lose(lost, worker)
    counter.raw.delete(f"{counter.prefix}queue:sdxl:interactive")  # as workers do
    lasting = {key for key in counter.raw.scan_iter(f"{counter.prefix}*") if counter.raw.ttl(key) == -1}
    assert {key.removeprefix(counter.prefix) for key in lasting} <= LASTING


def test_indexes_forget_records_that_expired(counter: Counter) -> None:
    kept, *gone = [counter.submit(tenant="acme") for _ in range(4)]
    for job_id in (kept, *gone):
        counter.hand.run(job_id)
    counter.raw.delete(*(f"{counter.prefix}job:{job_id}" for job_id in gone))
    assert counter.hand.io.run(walk_all(RULES.record_ttl)) == {"swept": 6}  # of all tenants, and of this one
    assert counter.raw.zrange(f"{counter.prefix}index:succeeded:acme", 0, -1) == [kept]
    with pytest.raises(JobNotFound):
        counter.get(gone[0])


def test_a_late_ending_of_a_lost_claim_is_refused(counter: Counter) -> None:
    """The server came back without the last second: the worker's claim is not in it."""
    job_id = counter.submit()
    held = counter.hand.claim(job_id)
    counter.raw.hdel(f"{counter.prefix}job:{job_id}", "token")
    counter.raw.hset(f"{counter.prefix}job:{job_id}", "state", "queued")
    assert counter.hand.io.run(c.renew([held], 60)) == [c.Hold.LOST]
    assert counter.hand.io.run(c.succeed(held, RESULT, [], RULES)) is False
    assert counter.hand.succeed(counter.hand.claim(job_id))
    assert counter.types(job_id).count("job.succeeded") == 1


@pytest.mark.parametrize(("how", "state"), [("cancel", State.CANCELED), ("finish_by", State.EXPIRED)])
def test_what_is_overtaken_is_not_handed_back(counter: Counter, how: str, state: State) -> None:
    job_id = counter.submit()
    held = counter.hand.claim(job_id)
    if how == "cancel":
        assert counter.client.cancel(job_id) == "cancellation_requested"
    else:
        counter.raw.hset(f"{counter.prefix}job:{job_id}", "finish_by", 1)
    assert counter.hand.io.run(c.hand_back(held, RULES))
    assert counter.get(job_id).state is state
    assert counter.types(job_id) == ["job.queued", "job.started", f"job.{state}"]


def test_a_canceled_job_whose_last_attempt_fails_is_canceled(counter: Counter) -> None:
    job_id = counter.submit()
    held = counter.hand.claim(job_id)
    counter.client.cancel(job_id)
    assert counter.hand.io.run(c.fail(held, OURS, RULES))
    job = counter.get(job_id)
    assert (job.state, [attempt.error.code for attempt in job.attempts]) == (State.CANCELED, [OURS.code])
    assert counter.client.dead() == []


@pytest.mark.parametrize(("field", "state"), [("canceled_at", State.CANCELED), ("finish_by", State.EXPIRED)])
def test_a_worker_that_does_not_stop_loses_its_lease(counter: Counter, field: str, state: State) -> None:
    """Its thread hangs somewhere, but its heart beats."""
    job_id = counter.submit()
    held = counter.hand.claim(job_id, lease=0.5)
    counter.client.cancel(job_id) if field == "canceled_at" else None
    lease = counter.raw.zscore(f"{counter.prefix}leases", job_id)
    counter.hand.io.run(c.renew([held], 60))
    assert counter.raw.zscore(f"{counter.prefix}leases", job_id) != lease  # a minute is left to it
    counter.raw.zadd(f"{counter.prefix}leases", {job_id: 1})
    counter.raw.hset(f"{counter.prefix}job:{job_id}", field, 1)
    counter.hand.io.run(c.renew([held], 60))
    assert counter.janitor() == {job_id: state}
    assert counter.hand.succeed(held) is False


def test_a_key_of_another_type_in_a_lanes_place_harms_that_lane_alone(counter: Counter) -> None:
    lane = f"{counter.prefix}queue:sdxl:interactive"
    first, second = counter.submit(), counter.submit(lane="bulk")
    held = [counter.hand.claim(job_id, lease=0) for job_id in (first, second)]
    counter.raw.delete(lane)
    counter.raw.set(lane, "somebody else's")
    assert counter.janitor() == {first: "queued", second: "queued"}
    assert [counter.get(job_id).state for job_id in (first, second)] == [State.QUEUED] * 2
    again = counter.hand.claim(first)
    assert counter.hand.io.run(c.hand_back(again, RULES))
    assert counter.janitor() == {}
    counter.raw.delete(lane)
    assert counter.janitor() == {}
    assert counter.raw.llen(lane) == 1  # as where all messages were lost
    assert counter.hand.succeed(held[0]) is False


def test_a_full_server_is_looked_after(counter: Counter) -> None:
    lost, late = counter.submit(), counter.submit(start_by=datetime.now(UTC) + timedelta(hours=1))
    counter.hand.claim(lost, lease=0)
    counter.raw.hset(f"{counter.prefix}job:{late}", "start_by", 1)
    counter.come_due("deadlines", late)
    counter.raw.config_set("maxmemory", "1mb")
    try:
        assert counter.hand.io.run(sweep("w", RULES)) == {lost: "queued", late: "expired"}
    finally:
        counter.raw.config_set("maxmemory", "0")


def test_a_long_job_keeps_its_changes_and_its_newest_steps(counter: Counter) -> None:
    job_id = counter.submit()
    held = counter.hand.claim(job_id)
    counter.hand.picture(held)
    for step in range(1100):
        counter.hand.io.run(c.progress(held, {"image": 1, "step": step, "of": 2000, "preview": False}, None))
    counter.hand.succeed(held)
    events = list(counter.client.watch(job_id))
    changes = [event.type for event in events if event.type != "job.progress"]
    assert changes == ["job.queued", "job.started", "job.image", "job.succeeded"]
    steps = [event.data["step"] for event in events if event.type == "job.progress"]
    assert steps == list(range(100, 1100))


def test_a_worker_that_is_heard_again_is_not_dead(counter: Counter) -> None:
    counter.raw.zadd(f"{counter.prefix}deaths", {"w": 1, "other": 2})
    counter.hand.serve()
    assert counter.raw.zrange(f"{counter.prefix}deaths", 0, -1) == ["other"]


@pytest.mark.parametrize("whoever", ["claim", "reconciler"])
def test_a_record_that_vanished_holds_no_place_in_its_lane(counter: Counter, whoever: str) -> None:
    job_id = counter.submit()
    counter.raw.delete(f"{counter.prefix}job:{job_id}", f"{counter.prefix}queue:sdxl:interactive")
    assert counter.janitor() == {}
    assert counter.raw.llen(f"{counter.prefix}queue:sdxl:interactive") == 1  # who takes it finds that nobody waits
    if whoever == "claim":
        claiming = c.claim_next([Place("sdxl", "interactive")], "w", 60, RULES, {"sdxl": ()})
        assert counter.hand.io.run(claiming) == Refusal("", "nothing")
    else:
        counter.hand.io.run(walk_all(RULES.record_ttl))
    for left in ("queued:*", "wait:*", "turn:*", "waits:*"):
        assert list(counter.raw.scan_iter(f"{counter.prefix}{left}")) == []


def test_a_place_of_another_type_harms_nobody_elses_turn(counter: Counter) -> None:
    names = ("turn:sdxl:interactive:default", "wait:sdxl:interactive:default:", "turn:sdxl:bulk", "waits:default",
             "service:sdxl", "service:sdxl:default", "paces", "paused", "tenants")  # fmt: skip
    for name in names:
        own, bulk = counter.submit(), counter.submit(lane="bulk")
        others = [counter.submit(tenant="other") for _ in range(2)]
        counter.raw.delete(f"{counter.prefix}{name}")
        counter.raw.set(f"{counter.prefix}{name}", "of another type")
        started = [counter.take() for _ in range(4)]
        assert set(others) <= {*started}, name
        counter.janitor()
        counter.hand.io.run(walk_all(RULES.record_ttl))  # it says nothing of what it cannot mend
        counter.raw.delete(f"{counter.prefix}{name}")
        counter.hand.io.run(walk_all(RULES.record_ttl))
        started += [counter.take() for _ in range(4)]
        assert {*started} - {None} == {own, bulk, *others}, name
        assert [job.state for job in counter.client.jobs(state=State.QUEUED)] == []


def test_of_many_at_their_limits_the_janitor_finds_those_that_are_no_more(counter: Counter) -> None:
    """As where a worker of before ended their jobs."""
    names = [f"{number:02}" for number in range(25)]
    for name in names:
        counter.submit(tenant=name)
    for name in names[:20]:
        counter.client.pause("tenant", name)
    turns = f"{counter.prefix}turn:sdxl:interactive"
    counter.raw.zadd(turns, dict.fromkeys(names[20:], math.inf))
    ends = time.monotonic() + 20
    while counter.raw.zcount(turns, "-inf", "(+inf") < 5:  # rounds of the next two seconds look at others
        assert time.monotonic() < ends
        counter.janitor()
    assert counter.raw.zrangebyscore(turns, "+inf", "+inf") == names[:20]


def test_a_request_that_no_worker_can_read_is_a_dead_letter(counter: Counter) -> None:
    job_id = counter.submit()
    counter.raw.hset(f"{counter.prefix}job:{job_id}", "request", '{"kind": "hologram"}')
    assert counter.hand.refused(job_id) == "unreadable"
    assert counter.raw.zrange(f"{counter.prefix}dead", 0, -1) == [job_id]
    (note,) = counter.raw.lrange(f"{counter.prefix}attempts:{job_id}", 0, -1)
    assert "request_unreadable" in note


def test_what_is_no_jobs_id_does_not_keep_the_janitor_from_jobs(counter: Counter) -> None:
    lost = counter.submit()
    counter.hand.claim(lost, lease=0)
    for key in ("leases", "delayed", "deadlines", "queued:sdxl:interactive"):
        counter.raw.execute_command("ZADD", f"{counter.prefix}{key}", 1, b"\xff\xfe not an id")
    assert counter.janitor() == {lost: "queued"}
    assert counter.raw.zrange(f"{counter.prefix}deadlines", 0, -1) == [lost]
    assert not counter.raw.exists(f"{counter.prefix}leases", f"{counter.prefix}delayed")
