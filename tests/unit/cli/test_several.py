"""What a command on several jobs shows when the server goes away in the middle of it."""

import json

import pytest

from darkroom.cli.screen import Screen
from darkroom.cli.several import Done, one_by_one
from darkroom.tasks import JobNotFound, QueueBroken, QueueUnavailable


def act(job_id: str) -> Done:
    if job_id == "gone":
        raise JobNotFound("no job gone")
    if job_id == "broken":
        raise QueueBroken("the record cannot be read")
    if job_id == "away":
        raise QueueUnavailable("no answer")
    return Done("done", {"ok": True})


def test_each_is_told_once_and_the_first_that_went_wrong_gives_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_by_one(Screen(), ["a", "gone", "a", "broken", "b"], act, failed={"ok": False}) == 7
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["a", "gone", "broken", "b"]


def test_what_was_done_before_the_server_went_away_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(QueueUnavailable):
        one_by_one(Screen(as_json=True), ["a", "gone", "away", "b"], act, failed={"ok": False})
    results = json.loads(capsys.readouterr().out)["results"]
    assert [(one["id"], one["ok"], "error" in one) for one in results] == [("a", True, False), ("gone", False, True)]


def test_nothing_is_told_where_nothing_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(QueueUnavailable):
        one_by_one(Screen(as_json=True), ["away"], act, failed={})
    assert capsys.readouterr().out == ""
