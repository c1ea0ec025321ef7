"""The record of places: what goes in comes out, and nothing else is taken."""

import random
import re

import pytest

from darkroom.worker.batching.placements import MAX_LENGTH, PATTERN, Place, Placements, Places, Script, Ticket


def recorded(*calls: Places) -> str:
    placements = Placements()
    for places in calls:
        placements.add(places)
    return str(placements)


def test_runs_of_equal_places_are_counted() -> None:
    assert recorded() == ""
    assert recorded((Place(8, 2, 2),)) == "8:2"
    assert recorded(*[(Place(8, 2, 2),)] * 28, *[(Place(4, 0, 2),)] * 2) == "28x8:2 2x4:0"
    assert recorded((Place(1, 0, 1), Place(1, 0, 1)), (Place(2, 0, 2),)) == "1:0:1+1:0:1 2:0"


def test_a_script_gives_every_call_its_places_again() -> None:
    draw = random.Random(1)
    calls: list[Places] = []
    for _ in range(500):
        rows = draw.choice((1, 2))
        whole = Place(bucket := draw.choice((2, 4, 8, 64)), draw.randrange(bucket - rows + 1), rows)
        parts = (whole,) if rows == 1 or draw.random() < 0.8 else (Place(1, 0, 1), Place(2, 1, 1))
        calls += [parts] * draw.randint(1, 40)
    text = recorded(*calls)
    script = Script(text)
    assert [script.next(sum(place.rows for place in places)) for places in calls] == calls
    assert script.next(2) is None


@pytest.mark.parametrize(
    "text",
    ["x", "8", "8:", ":2", "8:2 ", " 8:2", "8:2  4:0", "0:0", "0x8:2", "8:2+", "08:2", "8:2:0", "8:2:1:1", "-8:2",
     "1e9x8:2", "9999999x8:2", "8:2\n", "1٨:2", "8:2," * 9, "8:2 " * MAX_LENGTH],
)  # fmt: skip
def test_what_is_no_record_is_refused(text: str) -> None:
    assert len(text) > MAX_LENGTH or not re.fullmatch(PATTERN, text)
    with pytest.raises(ValueError, match="no record"):
        Script(text)


@pytest.mark.parametrize("text", ["8:7", "65:0", "999:0", "1:0:1+1:0:1+1:0:1", "1:0:1+1:1:1", "4:0:1+4:1:2"])
def test_places_that_cannot_be_are_none(text: str) -> None:
    assert Script(text).next(2) is None


def test_a_hostile_count_costs_nothing() -> None:
    script = Script("999999x8:2 " * 2000 + "8:2")
    assert script.next(2) == (Place(8, 2, 2),)


def test_a_ticket_with_a_script_goes_alone() -> None:
    assert not Ticket().solo
    assert Ticket(script=Script("8:2")).solo
