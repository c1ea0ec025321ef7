"""Who steps a scheduler, and how long the last one takes."""

from darkroom.worker.batching.crowd import PATIENCE, Crowd
from darkroom.worker.batching.placements import Ticket


def crowd() -> tuple[Crowd, list[float]]:
    gaps: list[float] = []
    return Crowd(gaps.append), gaps


def test_between_two_calls_an_image_is_awaited_in_its_group() -> None:
    found, _ = crowd()
    one, two, other = Ticket(), Ticket(), Ticket()
    found.called(one, 0.0)
    assert len(found.coming(0.0)) == len(found) == 0
    found.answered([(one, "a"), (two, "a")], 1.0)
    found.answered([(other, "b")], 1.0)
    assert found.coming(1.1) == {"a": 2, "b": 1}
    found.called(one, 1.1)
    found.left(two)
    found.left(two)
    assert found.coming(1.2) == {"b": 1}


def test_whoever_takes_long_is_not_waited_for() -> None:
    found, _ = crowd()
    found.answered([(Ticket(), "a")], 1.0)
    assert found.coming(1.0 + PATIENCE) == {"a": 1}
    assert found.coming(1.1 + PATIENCE) == {}


def test_the_gap_is_until_the_last_callers_next_call() -> None:
    found, gaps = crowd()
    tickets = [Ticket() for _ in range(3)]
    found.answered([(ticket, "a") for ticket in tickets], 1.0)
    found.called(tickets[0], 1.25)
    found.called(tickets[1], 1.5)
    assert gaps == []
    found.left(tickets[2])
    assert gaps == [0.5]


def test_where_all_leave_there_is_no_gap() -> None:
    found, gaps = crowd()
    ticket = Ticket()
    found.answered([(ticket, "a")], 1.0)
    found.left(ticket)
    assert gaps == []
