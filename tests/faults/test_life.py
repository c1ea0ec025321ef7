"""The life of jobs against what must always hold: what can happen, in any order, on the real scripts and a real server.

Only the clock is ours: `now()` of the scripts reads a key, so that leases, retries and deadlines end when a rule says.
"""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from darkroom.tasks import Darkroom, JobError, JobResult, State, TaskSettings, claims
from darkroom.tasks.claims import Claim, Hold, Overdue, Refusal
from darkroom.tasks.message import NO_JOB
from darkroom.tasks.places import Place
from darkroom.tasks.reconcile import walk_all
from darkroom.tasks.redis_io import BlockingIO, Operation
from tests.integration.hand import Hand

LANE = "sdxl:interactive"
QUEUE = f"queue:{LANE}"
LEASE, WORKERS = 30.0, ("w1", "w2", "w3")
TERMINAL = {f"job.{state}" for state in State if state.final}
ERRORS = {
    "passes": JobError(code="storage_unavailable", message="away", retryable=True),
    "ours": JobError(code="internal_error", message="a bug"),
    "theirs": JobError(code="input_missing", message="no such picture", callers_fault=True),
}

WAIT = "wait:sdxl:interactive:default:"
PLACES = ("leases", "delayed", "deadlines", "queued:sdxl:interactive", WAIT, "index:{state}", "index:{state}:default")

any_job = st.integers(0, 5)
any_claim = st.integers(0, 11)
some_seconds = st.sampled_from([0.5, 5.0, 31.0, 400.0])


class Life(RuleBasedStateMachine):
    """Producers, workers that work, freeze and die, a janitor, and a server that forgets messages."""

    def __init__(self, settings: TaskSettings, raw: "redis.Redis[str]") -> None:
        super().__init__()
        self.rules, self.raw = settings, raw
        self.io, self.client = BlockingIO(settings), Darkroom(settings)
        self.ids: list[str] = []
        self.claims: list[Claim] = []  # all that were ever given; those of dead and frozen workers are used on
        self.overdue: list[Overdue] = []  # what the janitor saw
        self.newest: dict[str, Claim] = {}
        self.failures: Counter[str] = Counter()
        self.told_canceled: set[str] = set()
        self.final: dict[str, dict[str, str]] = {}  # the records of ended jobs, as they were when they ended

    # What may happen

    @initialize()
    def begin(self) -> None:
        for key in self.raw.scan_iter(f"{self.rules.redis_prefix}*"):
            self.raw.delete(key)
        self._set_clock(datetime.now(UTC))

    @rule(start_by=st.none() | some_seconds, finish_by=st.none() | some_seconds)
    def submit(self, start_by: float | None, finish_by: float | None) -> None:
        if start_by and finish_by:
            start_by, finish_by = sorted((start_by, finish_by))  # the other way round is refused
        limits = {"start_by": start_by, "finish_by": finish_by}
        fields = {name: self.clock + timedelta(seconds=after) for name, after in limits.items() if after}
        self.ids.append(self.client.submit({"prompt": "a cat", "model": "sdxl", **fields}).id)

    @rule(seconds=some_seconds)
    def time_passes(self, seconds: float) -> None:
        self._set_clock(self.clock + timedelta(seconds=seconds))

    @rule(worker=st.sampled_from(WORKERS))
    def take_a_message(self, worker: str) -> None:
        message = self.raw.rpop(self._key(QUEUE))
        if message is not None:
            self._claim(json.loads(str(message))["headers"]["id"], worker)

    @precondition(lambda self: self.ids)
    @rule(number=any_job, worker=st.sampled_from(WORKERS))
    def hear_an_old_knock(self, number: int, worker: str) -> None:
        self._claim(self._job(number), worker)

    @precondition(lambda self: self.claims)
    @rule(number=any_claim)
    def ask_again_for_a_claim(self, number: int) -> None:
        """As after an answer that was lost."""
        claim, before = self._held(number), self._dump()
        stale = self._is_stale(claim)
        self._claim(claim.job_id, "w1", claim.token)
        assert stale or self._dump() == before

    @precondition(lambda self: self.claims)
    @rule(number=any_claim)
    def heartbeat(self, number: int) -> None:
        claim = self._held(number)
        (hold,) = self.io.run(claims.renew([claim], LEASE))
        if self._is_stale(claim):
            assert hold is Hold.LOST
        if hold is Hold.CANCEL:
            self._write(claim, State.CANCELED, claims.confirm_cancel(claim, self.rules))
        elif hold is Hold.EXPIRED:
            self._write(claim, State.EXPIRED, claims.confirm_expired(claim, self.rules))

    @precondition(lambda self: self.claims)
    @rule(number=any_claim)
    def store_a_picture(self, number: int) -> None:
        claim, before = self._held(number), self._dump()
        Hand(self.io).picture(claim, index=0)
        if self._is_stale(claim):
            assert self._dump() == before

    @precondition(lambda self: self.claims)
    @rule(number=any_claim)
    def take_a_step(self, number: int) -> None:
        claim = self._held(number)
        hold = self.io.run(claims.progress(claim, {"image": 0, "step": 1, "of": 4, "preview": False}, None))
        if self._is_stale(claim):
            assert hold is Hold.LOST

    @precondition(lambda self: self.claims)
    @rule(number=any_claim)
    def succeed(self, number: int) -> None:
        claim = self._held(number)
        result = JobResult(manifest=claim.token)
        self._write(claim, State.SUCCEEDED, claims.succeed(claim, result, [], self.rules))

    @precondition(lambda self: self.claims)
    @rule(number=any_claim, kind=st.sampled_from(sorted(ERRORS)))
    def fail(self, number: int, kind: str) -> None:
        claim = self._held(number)
        again = self._state(claim.job_id).final  # a failure that is told twice counts once
        if self._write(claim, State.FAILED, claims.fail(claim, ERRORS[kind], self.rules)) and not again:
            self.failures[claim.job_id] += kind != "theirs"

    @precondition(lambda self: self.claims)
    @rule(number=any_claim)
    def hand_back(self, number: int) -> None:
        self._write(self._held(number), None, claims.hand_back(self._held(number), self.rules))

    @precondition(lambda self: self.ids)
    @rule(number=any_job)
    def cancel(self, number: int) -> None:
        job_id = self._job(number)
        answer = self.client.cancel(job_id)
        after = self.client.get(job_id)
        true = {
            "canceled": after.state is State.CANCELED,
            "cancellation_requested": after.state is State.RUNNING and after.cancel_requested,
            "already_finished": job_id in self.final,
        }
        assert true[answer]
        if answer == "canceled":
            self.told_canceled.add(job_id)

    @rule()
    def the_server_forgets_messages(self) -> None:
        self.raw.delete(self._key(QUEUE))

    @rule()
    def the_janitor_looks(self) -> None:
        self.overdue = self.io.run(claims.overdue(200))
        assert self.raw.llen(self._key(QUEUE)) or not self.raw.exists(self._key(WAIT))

    @rule()
    def the_janitor_acts(self) -> None:
        """On what it saw, however long ago."""
        for found in self.overdue:
            self.io.run(claims.requeue(found, self.rules))

    @rule()
    def the_reconciler_walks(self) -> None:
        assert self.io.run(walk_all(self.rules.record_ttl)) == {}

    @precondition(lambda self: self.ids)
    @rule(number=any_job, place=st.sampled_from(PLACES))
    def a_place_is_lost_and_found(self, number: int, place: str) -> None:
        job_id = self._job(number)
        lost = self.raw.zrem(self._key(place.format(state=self._state(job_id))), job_id)
        found = self.io.run(walk_all(self.rules.record_ttl))
        turns = found.pop("turn_stale", 0)  # where the walk comes to them before it comes to the record
        assert found.total() == lost
        assert not turns or place == WAIT

    # What must hold at any time

    @invariant()
    def all_is_well(self) -> None:
        self.what_ended_stays_as_it_ended()
        self.events_tell_the_truth()
        self.nothing_is_forgotten_and_nothing_is_left()

    def what_ended_stays_as_it_ended(self) -> None:
        for job_id in self.ids:
            record = self.raw.hgetall(self._key(f"job:{job_id}"))
            if State(record["state"]).final:
                assert self.final.setdefault(job_id, record) == record
            else:
                assert job_id not in self.final
        for job_id in self.told_canceled:
            assert self.final[job_id]["state"] == "canceled"

    def events_tell_the_truth(self) -> None:
        feed = self.raw.xrange(self._key("feed"))
        assert _ids(feed) == sorted(set(_ids(feed)))
        ends = Counter(fields["job_id"] for _, fields in feed if fields["type"] in TERMINAL)
        for job_id in self.ids:
            told = self.raw.xrange(self._key(f"events:{job_id}"))
            assert _ids(told) == sorted(set(_ids(told)))
            types = [fields["type"] for _, fields in told if fields["type"] in TERMINAL]
            wanted = [f"job.{self.final[job_id]['state']}"] if job_id in self.final else []
            assert (types, ends[job_id]) == (wanted, len(wanted))
            assert not wanted or told[-1][1]["type"] == wanted[0]

    def nothing_is_forgotten_and_nothing_is_left(self) -> None:
        """Somebody looks after each job that has not ended, and nobody after one that has."""
        places = {name: set(self.raw.zrange(self._key(name), 0, -1)) for name in ("leases", "delayed", "deadlines")}
        places["waiting"] = set(self.raw.zrange(self._key("queued:sdxl:interactive"), 0, -1))
        assert set(self.raw.zrange(self._key(WAIT), 0, -1)) == places["waiting"]
        turns = [self.raw.zrange(self._key(name), 0, -1) for name in (f"turn:{LANE}", f"turn:{LANE}:default")]
        assert turns == ([["default"], ["u"]] if places["waiting"] else [[], []])
        assert self.raw.smembers(self._key("waits:default")) == ({LANE} if places["waiting"] else set())
        for job_id in self.ids:
            job = self.client.get(job_id)
            found = {name for name, members in places.items() if job_id in members} - {"deadlines"}
            wanted = {State.RUNNING: [{"leases"}], State.QUEUED: [{"waiting"}, {"delayed"}]}
            assert found in wanted.get(job.state, [set()])
            assert not job.state.final or job_id not in places["deadlines"]
            indexed = [state for state in State if self.raw.zscore(self._key(f"index:{state}"), job_id) is not None]
            assert indexed == [job.state]
            assert job.failures == self.failures[job_id]

    def teardown(self) -> None:
        """However it stands: with a worker that works and a janitor, every job ends."""
        for _ in range(4 * len(self.ids)):
            self.time_passes(301)
            self.the_janitor_looks()
            self.the_janitor_acts()
            self.all_is_well()
            while message := self.raw.rpop(self._key(QUEUE)):
                self._claim(json.loads(str(message))["headers"]["id"], "w1")
                for claim in list(self.newest.values()):
                    self._finish_well(claim)
        self.all_is_well()
        assert self.final.keys() == set(self.ids)
        self.io.close()
        self.client.close()

    def _finish_well(self, claim: Claim) -> None:
        if claim.job_id in self.final:
            return
        number = self.claims.index(claim)
        self.heartbeat(number)
        self.succeed(number)
        self.what_ended_stays_as_it_ended()

    # How it is done

    def _claim(self, named: str, worker: str, token: str | None = None) -> None:
        """The job whose turn it is. `named` by the knock."""
        all_before = {job_id: self.client.get(job_id) for job_id in self.ids}
        has = {"sdxl": ()}
        taking = claims.claim_next(
            [Place.parse(LANE)], worker, LEASE, self.rules, has, token=token, named="" if named == NO_JOB else named
        )
        found = self.io.run(taking)
        if isinstance(found, Refusal):
            return
        job_id, before = found.job_id, all_before[found.job_id]
        if before.state is State.RUNNING and self.newest[job_id].token == token:
            return
        assert before.state is State.QUEUED
        asked = before.request
        assert asked.finish_by is None or asked.finish_by > self.clock
        assert before.claims or asked.start_by is None or asked.start_by > self.clock
        assert found.number == before.claims + 1
        self.claims.append(found)
        self.newest[job_id] = found

    def _write(self, claim: Claim, state: State | None, operation: Operation[bool]) -> bool:
        """A write under a claim is taken where nobody else has had the job since, and where it is said again."""
        said_before = self.final.get(claim.job_id, {}).get("state") == state and not self._is_superseded(claim)
        stale, done = self._is_stale(claim), self.io.run(operation)
        if stale:
            assert not done or said_before
        return done

    def _is_superseded(self, claim: Claim) -> bool:
        return self.newest[claim.job_id].token != claim.token

    def _is_stale(self, claim: Claim) -> bool:
        return self._is_superseded(claim) or self._state(claim.job_id) is not State.RUNNING

    def _state(self, job_id: str) -> State:
        return self.client.get(job_id).state

    def _job(self, number: int) -> str:
        return self.ids[number % len(self.ids)]

    def _held(self, number: int) -> Claim:
        return self.claims[number % len(self.claims)]

    def _key(self, name: str) -> str:
        return self.rules.redis_prefix + name

    def _dump(self) -> dict[str, Any]:
        keys = sorted(self.raw.scan_iter(self._key("*")))
        with self.raw.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.execute_command("DUMP", key, NEVER_DECODE=True)
            return dict(zip(keys, pipe.execute(), strict=True))

    def _set_clock(self, clock: datetime) -> None:
        self.clock = clock.replace(microsecond=0) if not hasattr(self, "clock") else clock
        self.raw.set(self._key("test-clock"), round(self.clock.timestamp() * 1000))


def _ids(entries: Any) -> list[tuple[int, ...]]:
    return [tuple(map(int, entry.split("-"))) for entry, _ in entries]


@pytest.mark.usefixtures("our_clock")
def test_whatever_happens_to_a_job(task_settings: TaskSettings, raw: "redis.Redis[str]") -> None:
    profile = "long" if settings.get_current_profile_name() == "long" else "short"
    run_state_machine_as_test(partial(Life, task_settings, raw), settings=settings.get_profile(profile))
