"""What an operator says of tenants, models and the order of jobs."""

from collections.abc import Callable

import pytest

from darkroom.tasks import Darkroom
from tests.acceptance.conftest import Call
from tests.integration.hand import Hand

Submit = Callable[..., list[str]]


def test_what_is_named_is_set_and_what_is_not_stays(ask: Call) -> None:
    assert ask("tenants", "set", "alice", "--weight", "2", "--max-running", "4", "--json").json == {
        "tenant": "alice", "weight": 2, "max_running": 4, "max_queued": None, "user_max_running": None,
        "user_max_queued": None,
    }  # fmt: skip
    assert "max queued 9" in ask("tenants", "set", "alice", "--max-queued", "9").out
    (found,) = ask("tenants", "list", "--json").json["tenants"]
    assert (found["name"], found["queued"], found["running"], found["paused"]) == ("alice", 0, 0, False)
    assert {name: value for name, value in found["limits"].items() if value} == {
        "weight": 2, "max_running": 4, "max_queued": 9,
    }  # fmt: skip
    assert ask("tenants", "set", "alice", "--reset").code == 0
    assert ask("tenants", "list", "--json").json == {"tenants": []}


@pytest.mark.parametrize(
    "asked",
    [
        ("alice", "--weight", "0"), ("alice", "--weight", "-1"), ("alice", "--weight", "nan"),
        ("alice", "--weight", "inf"), ("alice", "--weight", "much"), ("alice", "--max-running", "0"),
        ("alice", "--max-queued", "-5"), ("alice", "--user-max-running", "0"), ("no/tenant", "--weight", "1"),
        ("alice",),
    ],
)  # fmt: skip
def test_what_is_no_share_or_limit_is_refused_and_nothing_is_set(ask: Call, asked: tuple[str, ...]) -> None:
    told = ask("tenants", "set", *asked, "--json")
    assert told.code == 2
    assert "Traceback" not in told.err
    assert ask("tenants", "list", "--json").json == {"tenants": []}


def test_a_pause_is_of_a_model_that_is_served_or_of_a_tenant(ask: Call, hand: Hand, submit: Submit) -> None:
    hand.serve()
    (job_id,) = submit(1, tenant="alice")
    assert ask("pause", "sdxl", "--json").json == {"paused": [{"what": "model", "name": "sdxl"}]}
    assert ask("pause", "alice", "--json").json == {"paused": [{"what": "tenant", "name": "alice"}]}
    (found,) = ask("tenants", "list", "--json").json["tenants"]
    assert (found["paused"], found["queued"]) == (True, 1)
    assert ask("resume", "--model", "sdxl").code == 0
    assert ask("resume", "--tenant", "alice").code == 0
    assert not ask("tenants", "list", "--json").json["tenants"][0]["paused"]
    assert ask("pause", "sdxl", "--model", "--tenant").code == 2
    assert ask("cancel", job_id).code == 0


def test_a_job_is_moved_to_the_front_of_its_tenant(ask: Call, submit: Submit, client: Darkroom, hand: Hand) -> None:
    first, last = submit(2)
    assert ask("move", last, "--front", "--json").json["results"] == [{"id": last, "outcome": "moved"}]
    place = client.position(first)
    assert place is not None
    assert place.jobs == 1
    assert ask("move", last).code == 2
    assert ask("move", last, "--front", "--tenant", "bob").code != 0
    hand.run(first)
    assert "does not wait" in ask("move", first, "--front").out
