"""Several jobs in one command, ids however they are written, and records that cannot be read."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
import redis

from darkroom.storage import ObjectStore, open_store
from darkroom.tasks import JobError, claims
from tests.acceptance.conftest import Call, Told
from tests.integration.hand import RULES, Hand

OURS = JobError(code="internal_error", message="oh")
NEWER = '{"kind": "upscale", "prompt": "of a newer version"}'


@pytest.fixture
def given_up(submit: Callable[..., list[str]], hand: Hand) -> list[str]:
    """Two jobs that a worker failed at."""
    ids = submit(2)
    for job_id in ids:
        assert hand.io.run(claims.fail(hand.claim(job_id), OURS, RULES))
    return ids


def ids_of(told: Told) -> list[str]:
    return [job["id"] for job in told.lines]


def test_each_retry_is_shown_and_a_repeat_makes_no_further_job(ask: Call, given_up: list[str]) -> None:
    job_id = given_up[0]
    told = ask("dead", "retry", job_id, "nope", job_id.upper())
    new_id = ids_of(ask("list", "--state", "queued", "--json"))
    assert (told.code, len(new_id)) == (7, 1)
    assert [line.split()[:2] for line in told.out.splitlines()] == [[job_id, new_id[0]], ["nope", "no"]]
    again = ask("dead", "retry", job_id, "nope", "--json")
    assert again.code == 7
    first, second = again.json["results"]
    assert first == {"id": job_id, "new_id": new_id[0], "repeated": True}
    assert (second["new_id"], second["error"]["code"]) == (None, "job_not_found")
    assert "it is the one to retry" in ask("dead", "retry", job_id).out
    assert ids_of(ask("list", "--state", "queued", "--json")) == new_id


def test_what_did_not_fail_is_not_retried(ask: Call, submit: Callable[..., list[str]], hand: Hand) -> None:
    (job_id,) = submit(1)
    hand.run(job_id)
    told = ask("dead", "retry", job_id, "--json")
    assert (told.code, told.json["results"][0]["error"]["code"]) == (7, "job_not_failed")
    assert "submit it as a new job" in ask("dead", "retry", job_id).out
    assert ids_of(ask("list", "--state", "queued", "--json")) == []


def test_an_id_given_twice_counts_once_however_it_is_written(ask: Call, submit: Callable[..., list[str]]) -> None:
    (job_id,) = submit(1)
    for arguments in (["status", job_id.upper()], ["watch", job_id.upper(), "--timeout", "0"]):
        assert ask(*arguments).code in (0, 9)
    canceled = ask("cancel", job_id, job_id.upper(), "--json")
    assert (canceled.code, canceled.json) == (0, {"results": [{"id": job_id, "outcome": "canceled"}]})
    assert ask("watch", job_id.upper()).code == 8
    deleted = ask("delete", job_id, job_id, "--json")
    assert (deleted.code, deleted.json) == (0, {"results": [{"id": job_id, "deleted": True}]})


@pytest.mark.parametrize(
    "arguments",
    [
        ["cancel", ""],
        ["status", " "],
        ["delete", "\udcff"],
        ["list", "--before", ""],
        ["dead", "drop"],
        ["dead", "drop", ""],
    ],
)
def test_no_id_is_bad_usage(ask: Call, arguments: list[str]) -> None:
    told = ask(*arguments, "--json")
    assert (told.code, told.error["code"]) == (2, "usage")
    assert told.error["message"] and told.error["hint"]


def test_messages_that_are_dropped_are_counted(ask: Call, raw: "redis.Redis[bytes]", given_up: list[str]) -> None:
    raw.lpush("darkroom:garbage", *("{}" for _ in range(3)))
    assert ask("dead", "drop", "--messages", "--json").json == {"results": [], "messages": 3}
    told = ask("dead", "drop", given_up[0], given_up[0], "--messages", "--json")
    assert (told.code, told.json) == (0, {"results": [{"id": given_up[0], "dropped": True}], "messages": 0})


@pytest.mark.parametrize(
    "note", ['{"time":1,"queue":"q"}', '{"time":1e30,"queue":"q","reason":"x","bytes":1,"start":""}']
)
def test_garbage_about_garbage_is_listed(ask: Call, raw: "redis.Redis[bytes]", note: str) -> None:
    raw.lpush("darkroom:garbage", note)
    told = ask("dead", "list")
    assert told.code == 0
    assert told.out.splitlines()[1].startswith("? ")
    assert len(ask("dead", "list", "--json").json["messages"]) == 1


def test_unreadable_dead_letters_are_named_beside_the_others(
    ask: Call, raw: "redis.Redis[bytes]", given_up: list[str]
) -> None:
    spoilt, whole = given_up
    raw.hset(f"darkroom:job:{spoilt}", "request", NEWER)
    raw.zadd("darkroom:dead", {b"\xff": 1})
    told = ask("dead", "list")
    assert (told.code, whole in told.out, spoilt in told.err) == (0, True, True)
    assert "darkroom status" in told.err
    document = ask("dead", "list", "--json").json
    assert ([job["id"] for job in document["jobs"]], document["unreadable"]) == ([whole], [spoilt])
    retried = ask("dead", "retry", spoilt, whole, "--json")
    assert [one.get("error", {}).get("code") for one in retried.json["results"]] == ["queue_broken", None]
    assert retried.code == 3


def test_a_list_goes_on_behind_a_page_with_unreadable_records(
    ask: Call, raw: "redis.Redis[bytes]", submit: Callable[..., list[str]]
) -> None:
    ids = submit(250)
    for job_id in islice(reversed(ids), 5, 125):  # more than a page of them
        raw.hset(f"darkroom:job:{job_id}", "request", NEWER)
    readable = [*ids[:125], *ids[245:]][::-1]
    for limit in (3, 100, 120, 150):
        told = ask("list", "--limit", str(limit), "--json")
        assert ids_of(told) == readable[:limit]
    assert "and 115 more" in told.err
    shown = ask("list", "--limit", "130")
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == readable


def test_gc_does_all_that_is_due(ask: Call, submit: Callable[..., list[str]], raw: "redis.Redis[bytes]") -> None:
    over = (datetime.now(UTC) + timedelta(milliseconds=1)).isoformat()
    submit(450, start_by=over)
    told = ask("gc", "--json")
    assert told.code == 0
    assert set(told.json["jobs"].values()) == {"expired"}
    assert (len(told.json["jobs"]), raw.zcard("darkroom:index:expired")) == (450, 450)
    assert ask("gc", "--json").json["jobs"] == {}


@pytest.fixture
def store(ask: Call) -> ObjectStore:
    return open_store()


def test_gc_leaves_alone_what_an_unreadable_record_may_name(
    ask: Call, raw: "redis.Redis[bytes]", given_up: list[str], store: ObjectStore
) -> None:
    keys = [f"{job_id}/9-0123456789abcdef.png" for job_id in given_up]
    for key in keys:
        store.put(key, b"x", content_type="image/png")
    raw.hset(f"darkroom:job:{given_up[0]}", "request", NEWER)
    told = ask("gc", "--expired", "--json")
    assert (told.code, told.json["objects"], told.json["unreadable"]) == (0, [keys[1]], [given_up[0]])
    assert given_up[0] in told.err
    assert [store.exists(key) for key in keys] == [True, False]


def test_cancel_all_of_a_state_and_tenant(ask: Call, submit: Callable[..., list[str]], hand: Hand) -> None:
    running = submit(1, tenant="alice")[0]
    hand.claim(running)
    submit(3, tenant="alice")
    others = submit(2, tenant="bob")
    told = ask("cancel", "--all", "--state", "queued", "--tenant", "alice")
    assert (told.code, told.out) == (0, "3 canceled\n")
    assert {
        job["id"]: job["state"] for job in ask("list", "--state", "queued", "--state", "running", "--json").lines
    } == {
        running: "running",
        **dict.fromkeys(others, "queued"),
    }
    told = ask("cancel", "--all", "--json")
    assert told.json == {"jobs": 3, "counts": {"canceled": 2, "cancellation_requested": 1}}
    assert ask("cancel", "--all", "--state", "queued").out == "no such jobs\n"


@pytest.mark.parametrize(
    "options", [[], ["x", "--all"], ["x", "--state", "queued"], ["x", "--tenant", "a"], ["--all", "--state", "failed"]]
)
def test_cancel_of_what_is_not_clear(ask: Call, options: list[str]) -> None:
    told = ask("cancel", *options, "--json")
    assert (told.code, told.error["code"]) == (2, "usage")
