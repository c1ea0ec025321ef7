"""Whose job goes first within a tenant: its users take turns by cost, and a user's own jobs go by priority."""

import pytest

from .floor import Floor, shares


def test_priority_then_submission(floor: Floor) -> None:
    asked = [3, 1, 5, 3, 4, 1, 5, 2]
    ids = [floor.submit("a", priority=priority)[0] for priority in asked]
    wanted = [ids[i] for i in sorted(range(len(asked)), key=lambda i: (-asked[i], i))]
    assert [start.id for start in floor.serve(len(asked))] == wanted


def test_priority_is_nothing_to_other_tenants(floor: Floor) -> None:
    floor.submit("pushy", 60, priority=5)
    floor.submit("modest", 60, priority=1)
    assert shares(floor.serve(60)) == pytest.approx({"pushy": 0.5, "modest": 0.5}, rel=0.05)


def test_priority_is_nothing_to_other_users(floor: Floor) -> None:
    floor.submit("a", 40, user="pushy", priority=5)
    floor.submit("a", 40, user="modest", priority=1)
    floor.submit("a", 40)
    assert shares(floor.serve(60), "user") == pytest.approx({"pushy": 1 / 3, "modest": 1 / 3, "": 1 / 3}, rel=0.05)


def test_a_users_urgent_job_is_its_next_however_long_its_others_wait(floor: Floor) -> None:
    floor.submit("a", 10, user="u")
    floor.submit("a", 10, user="v")
    floor.serve(5)
    (urgent,) = floor.submit("a", user="u", priority=5)
    found = floor.serve(3)
    assert next(start.id for start in found if start.user == "u") == urgent


def test_users_take_turns_by_cost(floor: Floor) -> None:
    floor.submit("a", 200, user="many")
    floor.submit("a", 40, user="large", num_images=8)
    floor.submit("a", 200, user="third")
    assert shares(floor.serve(220), "user") == pytest.approx({"many": 1 / 3, "large": 1 / 3, "third": 1 / 3}, rel=0.05)


def test_users_give_their_tenant_no_more(floor: Floor) -> None:
    for number in range(10):
        floor.submit("crowd", 10, user=f"user {number}")
    floor.submit("single", 100, user="user 0")
    assert shares(floor.serve(100)) == pytest.approx({"crowd": 0.5, "single": 0.5}, rel=0.05)


def test_a_new_users_job_is_its_tenants_next(floor: Floor) -> None:
    floor.submit("a", 50, user="u")
    floor.submit("a", 50, user="v")
    floor.submit("b", 50)
    floor.serve(21)
    (job_id,) = floor.submit("a", user="new")
    assert next(start.id for start in floor.serve(2) if start.tenant == "a") == job_id


def test_new_users_without_end_keep_nobody_from_being_served(floor: Floor) -> None:
    floor.submit("a", 20, user="old")
    floor.serve(1)
    for number in range(60):
        floor.submit("a", user=f"visit {number}")
        floor.serve(1)
    assert shares(floor.starts[1:], "user")["old"] > 0.15


def test_a_user_at_its_limit_waits_and_others_go_on(floor: Floor) -> None:
    floor.client.set_limits("a", user_max_running=1)
    floor.submit("a", 5, user="u")
    floor.submit("a", 2, user="v")
    floor.submit("a", 2)
    running = [floor.take() for _ in range(4)]
    assert sorted(start.user for start in running) == ["", "", "u", "v"]
    assert floor.ask().reason == "nothing"  # type: ignore[union-attr]
    floor.end(next(start for start in running if start.user == "u"))
    assert floor.take().user == "u"
    assert floor.ask().reason == "nothing"  # type: ignore[union-attr]


def test_to_the_front_of_a_users_own(floor: Floor) -> None:
    ids = floor.submit("a", 4)
    urgent = floor.submit("a", priority=5)
    assert floor.client.move_to_front(ids[3]) == "moved"
    assert floor.client.move_to_front(ids[2]) == "moved"
    assert [start.id for start in floor.serve(5)] == [ids[2], ids[3], *urgent, ids[0], ids[1]]


def test_to_the_front_of_all_users_and_lanes_of_its_tenant(floor: Floor) -> None:
    floor.submit("a", 6, user="u", priority=5)
    floor.submit("a", 6, user="v")
    floor.submit("a", 6)
    floor.serve(5)
    (last,) = floor.submit("a", user="v", priority=1)
    assert floor.client.move_to_front(last) == "moved"
    assert floor.take().id == last


def test_the_front_is_that_of_its_tenant_alone(floor: Floor) -> None:
    floor.submit("a", 30)
    floor.submit("b", 30)
    floor.serve(6)
    for job_id in floor.submit("a", 10):
        assert floor.client.move_to_front(job_id) == "moved"
    assert shares(floor.serve(20)) == pytest.approx({"a": 0.5, "b": 0.5}, rel=0.05)


def test_the_front_is_charged_to_its_user(floor: Floor) -> None:
    floor.submit("a", 60, user="u")
    floor.submit("a", 60, user="v")
    floor.serve(6)
    for _ in range(10):
        (job_id,) = floor.submit("a", user="u")
        floor.client.move_to_front(job_id)
    assert shares(floor.serve(40), "user") == pytest.approx({"u": 0.5, "v": 0.5}, rel=0.05)


def test_what_cannot_be_moved(floor: Floor) -> None:
    (waits,) = floor.submit("a")
    (runs,) = floor.submit("b")
    missing = "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89"
    while floor.take().id != runs:
        pass
    assert floor.client.move_to_front(runs) == "not_waiting"
    assert floor.client.move_to_front(missing) == "not_found"
    assert floor.client.move_to_front(waits, tenant="b") == "not_found"


def test_position_counts_what_goes_before(floor: Floor) -> None:
    ids = floor.submit("a", 5)
    assert [floor.client.position(one) for one in ids] == [(number, None) for number in range(5)]
    floor.client.move_to_front(ids[4])
    assert [getattr(floor.client.position(one), "jobs", None) for one in ids] == [1, 2, 3, 4, 0]


def test_position_tells_the_time_of_what_goes_before(floor: Floor) -> None:
    floor.submit("a")
    (start,) = floor.serve(1)
    seconds = start.cost * 0.05
    ids = floor.submit("a", 4)
    assert floor.client.position(ids[3]) == (3, pytest.approx(3 * seconds, rel=0.01))
    running = floor.take()
    assert running.id == ids[0]
    assert floor.client.position(ids[0]) is None
    assert floor.client.position(ids[3]) == (2, pytest.approx(2 * seconds, rel=0.01))


def test_position_among_tenants_is_about_true(floor: Floor) -> None:
    """The mean of what is told is that of what comes, within a third."""
    floor.client.set_limits("b", weight=2)
    jobs = [*floor.submit("a", 20), *floor.submit("b", 40), *floor.submit("c", 5)]
    told = [getattr(floor.client.position(one), "jobs", -1) for one in jobs]
    order = [start.id for start in floor.serve(65)]
    apart = [abs(one - order.index(job_id)) for one, job_id in zip(told, jobs, strict=True)]
    assert min(told) >= 0
    assert sum(apart) / len(apart) < 10
