"""Commands about jobs: watch, status, list, cancel, delete."""

import os
import signal
import subprocess

import pytest

from tests.acceptance.conftest import MODEL, Call, Installation, Told
from tests.nursery import nursery

LONG = ("--steps", "200", "-n", "16")  # half a minute, if nobody cancels it


@pytest.fixture
def done(call: Call, darkroom: Installation) -> str:
    """The id of a job that succeeded."""
    job_id: str = call("submit", "a cat", "--wait", "--json").json["id"]
    return job_id


def test_watch_tells_the_whole_story(darkroom: Installation, done: str) -> None:
    told = darkroom.command("watch", done)
    words = [line.split("  ", 2)[2] for line in told.out.splitlines()]
    assert told.code == 0
    assert words[0] == "queued"
    assert words[1].startswith("started on ")
    assert "image 0: step 4 of 4" in words
    assert words[-1] == "succeeded"


def test_watch_as_json_lines_after_an_event(call: Call, done: str) -> None:
    events = call("watch", done, "--json").lines
    assert [event["type"] for event in events[:2]] == ["job.queued", "job.started"]
    rest = call("watch", done, "--after", events[1]["id"], "--json")
    assert rest.lines == events[2:]
    ended = call("watch", done, "--after", events[-1]["id"], "--json")
    assert (ended.code, ended.out) == (0, "")


def test_status_for_people_and_programs(call: Call, done: str) -> None:
    told, document = call("status", done), call("status", done, "--json").json
    assert (told.code, document["state"], document["position"]) == (0, "succeeded", None)
    for words in (done, "succeeded", document["images"][0]["key"], document["result"]["manifest"], MODEL):
        assert words in told.out


def test_status_of_a_waiting_job_has_its_place(call: Call, darkroom: Installation) -> None:
    first, second = (call("submit", "a cat", "--model", "sd-1.5", "--json").json["id"] for _ in range(2))
    place = call("status", first, "--json").json["position"]
    assert call("status", second, "--json").json["position"] == {"jobs": place["jobs"] + 1, "seconds": None}
    assert f"queued, about {place['jobs']} before it" in call("status", first).out
    assert call("cancel", first, second).code == 0


def test_list_newest_first_in_pages(call: Call, darkroom: Installation) -> None:
    ids = [call("submit", f"number {i}", "--tenant", "lister", "--json").json["id"] for i in range(3)]
    told = call("list", "--tenant", "lister", "--limit", "2")
    lines = told.out.splitlines()
    assert [line.split()[0] for line in lines] == ["ID", ids[2], ids[1]]
    assert f"--before {ids[1]}" in told.err
    older = call("list", "--tenant", "lister", "--before", ids[1], "--json").lines
    assert [job["id"] for job in older] == ids[:1]
    assert call("list", "--tenant", "nobody").out == ""


def test_cancel_a_running_job_and_follow_it_to_its_end(darkroom: Installation, call: Call) -> None:
    job_id = call("submit", "long", *LONG, "--json").json["id"]
    with subprocess.Popen(
        [nursery().python, "-m", "darkroom.cli", "watch", job_id, "--json"],
        env={**os.environ, **darkroom.environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        for line in watching.stdout:
            if "job.progress" in line:
                assert call("cancel", job_id, "--json").json["results"][0]["outcome"] == "cancellation_requested"
                break
        rest = watching.stdout.read()
    assert watching.returncode == 8
    assert "job.canceled" in rest.splitlines()[-1]
    assert call("cancel", job_id).code == 7


def test_ctrl_c_while_waiting_leaves_the_job_alone(darkroom: Installation, call: Call) -> None:
    with subprocess.Popen(
        [nursery().python, "-m", "darkroom.cli", "submit", "long", *LONG, "--wait"],
        env={**os.environ, **darkroom.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stdout is not None
        assert waiting.stderr is not None
        job_id = waiting.stdout.readline().strip()
        while "step" not in waiting.stderr.readline():
            pass
        waiting.send_signal(signal.SIGINT)
        rest = waiting.stderr.read()
    assert waiting.returncode == 130
    assert f"the job goes on: darkroom watch {job_id}, or darkroom cancel {job_id}" in rest
    assert "Traceback" not in rest
    assert call("status", job_id, "--json").json["state"] == "running"
    assert call("cancel", job_id).code == 0
    assert call("watch", job_id).code == 8


def test_ctrl_c_in_watch_says_that_the_job_goes_on(darkroom: Installation, call: Call) -> None:
    job_id = call("submit", "long", *LONG).out.strip()
    with subprocess.Popen(
        [nursery().python, "-m", "darkroom.cli", "watch", job_id],
        env={**os.environ, **darkroom.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        while "step" not in watching.stdout.readline():
            pass
        watching.send_signal(signal.SIGINT)
        rest = watching.stderr.read()
    assert watching.returncode == 130
    assert rest == f"the job goes on: darkroom watch {job_id}, or darkroom cancel {job_id}\n"
    assert call("cancel", job_id).code == 0
    assert call("watch", job_id).code == 8


def test_delete_removes_record_and_pictures(call: Call, darkroom: Installation, done: str) -> None:
    assert (darkroom.objects / done).is_dir()
    told = call("delete", done, "--json")
    assert (told.code, told.json) == (0, {"results": [{"id": done, "deleted": True}]})
    assert not (darkroom.objects / done).exists()
    again = call("delete", done, "--json")
    assert (again.code, again.json["results"][0]["error"]["code"]) == (7, "job_not_found")


def test_delete_refuses_a_job_that_has_not_ended(call: Call, darkroom: Installation) -> None:
    job_id = call("submit", "a cat", "--model", "sd-1.5", "--json").json["id"]
    told = call("delete", job_id)
    assert told.code == 7
    assert "wait for it or cancel it first" in told.out
    call("cancel", job_id)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["status", "nope"], 7, "job_not_found"),
        (["watch", "nope"], 7, "job_not_found"),
        (["list", "--before", "nope"], 7, "job_not_found"),
        (["list", "--state", "nope"], 2, "invalid_request"),
        (["list", "--limit", "0"], 2, "usage"),
        (["cancel"], 2, "usage"),
    ],
)
def test_what_is_not_there(call: Call, arguments: list[str], code: int, named: str) -> None:
    told = call(*arguments, "--json")
    assert (told.code, told.error["code"]) == (code, named)
    plain = call(*arguments)
    assert plain.code == code
    assert plain.err.startswith("error: ")


def test_cancel_what_is_not_there(call: Call) -> None:
    told: Told = call("cancel", "nope", "--json")
    assert (told.code, told.json["results"]) == (7, [{"id": "nope", "outcome": "not_found"}])


def test_a_bad_event_id(call: Call, done: str) -> None:
    told = call("watch", done, "--after", "yesterday")
    assert told.code == 2
    assert "--after: 'yesterday' is no event id" in told.err
