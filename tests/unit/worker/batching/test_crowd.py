"""Who steps a scheduler, and how long the last one takes."""

from darkroom.worker.batching.crowd import PATIENCE, Crowd
from darkroom.worker.batching.placements import Ticket


def crowd() -> tuple[Crowd, list[float]]:
    gaps: list[float] = []
    return Crowd(gaps.append), gaps


def answered(found: Crowd, who: list[tuple[Ticket, str]], now: float) -> None:
    """These have called, and get their rows."""
    for ticket, _ in who:
        found.called(ticket, 0.0)
    found.answered(who, now)


def test_between_two_calls_an_image_is_awaited_in_its_group() -> None:
    found, _ = crowd()
    one, two, other = Ticket(), Ticket(), Ticket()
    found.called(one, 0.0)
    assert len(found.coming(0.0)) == len(found) == 0
    answered(found, [(one, "a"), (two, "a")], 1.0)
    answered(found, [(other, "b")], 1.0)
    assert found.coming(1.1) == {"a": 2, "b": 1}
    found.called(one, 1.1)
    found.left(two)
    found.left(two)
    assert found.coming(1.2) == {"b": 1}


def test_whoever_takes_long_is_not_waited_for() -> None:
    found, _ = crowd()
    answered(found, [(Ticket(), "a")], 1.0)
    assert found.coming(1.0 + PATIENCE) == {"a": 1}
    assert found.coming(1.1 + PATIENCE) == {}


def test_the_gap_is_until_the_last_callers_next_call() -> None:
    found, gaps = crowd()
    tickets = [Ticket() for _ in range(3)]
    answered(found, [(ticket, "a") for ticket in tickets], 1.0)
    found.called(tickets[0], 1.25)
    found.called(tickets[1], 1.5)
    assert gaps == []
    found.left(tickets[2])
    assert gaps == [0.5]


def test_where_all_leave_there_is_no_gap() -> None:
    found, gaps = crowd()
    ticket = Ticket()
    answered(found, [(ticket, "a")], 1.0)
    found.left(ticket)
    assert gaps == []


def test_who_left_while_the_model_was_at_its_call_is_not_waited_for() -> None:
    found, gaps = crowd()
    stays, leaves = Ticket(), Ticket()
    found.called(stays, 0.0)
    found.called(leaves, 0.0)
    found.left(leaves)
    found.answered([(stays, "a"), (leaves, "a")], 1.0)
    assert found.coming(1.0) == {"a": 1} and len(found) == 1
    found.called(stays, 1.5)
    assert gaps == [0.5]
    found.called(leaves, 2.0)
    found.answered([(leaves, "a")], 2.5)
    assert len(found) == 1
