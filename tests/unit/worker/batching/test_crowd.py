"""Who steps a scheduler, and how long the last one takes."""

from darkroom.worker.batching.crowd import PATIENCE, PAUSE, STANDING, Crowd
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.standing import NOBODY, Expected


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


def test_others_stand_still_for_urgent_images_that_step_and_not_for_long() -> None:
    found, _ = crowd()
    urgent, solo, other = Ticket(), Ticket(solo=True), Ticket(urgent=False)
    for ticket in (urgent, solo, other):
        found.called(ticket, 0.0)
    assert found.urgent(0.0) == NOBODY
    found.answered([(urgent, "a"), (other, "a")], 1.0)
    assert found.urgent(1.0) == Expected({"a": 1}, 1.0 + STANDING)
    found.answered([(solo, None)], 2.0)
    assert found.urgent(2.0) == Expected({"a": 1}, 2.0 + STANDING)
    assert found.coming(2.0) == {"a": 2}  # nobody waits for company of solo ones
    found.called(solo, 2.1)
    found.left(urgent)
    found.goes_on(0)
    assert found.urgent(2.1) == NOBODY


def test_an_urgent_thread_that_pauses_between_other_calls_is_waited_for_until_it_goes_on() -> None:
    found, _ = crowd()
    found.pauses(7, 1.0)
    assert found.urgent(1.0) == Expected({}, 1.0 + PAUSE)
    found.goes_on(7)
    assert found.urgent(1.0) == NOBODY
    ticket = Ticket()
    answered(found, [(ticket, "a")], 2.0)
    found.left(ticket, 7, 2.1)  # after its last step: the picture is decoded now
    assert found.urgent(2.1) == Expected({}, 2.1 + PAUSE)
    found.left(ticket, 7, 2.2)  # it is made
    assert found.urgent(2.2) == NOBODY
