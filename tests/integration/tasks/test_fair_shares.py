"""What tenants have of a worker's time: by weight, in cost and not in jobs, and nothing for idling."""

import pytest

from darkroom.tasks import claims

from .floor import PACE_MS, Floor, Start, served, shares


def close(found: dict[str, float], **wanted: float) -> None:
    assert found == pytest.approx(wanted, rel=0.05)


def test_by_weight_whoever_was_there_first_with_however_many(floor: Floor) -> None:
    floor.client.set_limits("c", weight=3)
    floor.submit("b", 400)
    floor.serve(40)
    floor.submit("c", 150)
    close(shares(floor.serve(160)), b=0.25, c=0.75)


def test_by_cost_and_not_by_number(floor: Floor) -> None:
    floor.submit("few", 60, num_images=4, num_inference_steps=20)
    floor.submit("many", 700)
    floor.submit("small", 900, width=512, height=512)
    found = floor.serve(1100)
    costs = {start.tenant: start.cost for start in found}
    assert costs["few"] == pytest.approx(4 * 21 / 11 * costs["many"])
    assert costs["small"] == pytest.approx(costs["many"] / 4)
    close(shares(found), few=1 / 3, many=1 / 3, small=1 / 3)


def test_weight_is_of_cost_too(floor: Floor) -> None:
    floor.client.set_limits("heavy", weight=0.5)
    floor.submit("heavy", 40, num_images=8)
    floor.submit("light", 500)
    close(shares(floor.serve(300)), heavy=1 / 3, light=2 / 3)


def test_a_weight_holds_from_the_next_start_on(floor: Floor) -> None:
    floor.submit("a", 300)
    floor.submit("b", 300)
    close(shares(floor.serve(100)), a=0.5, b=0.5)
    floor.client.set_limits("a", weight=4)
    close(shares(floor.serve(200)), a=0.8, b=0.2)
    floor.client.set_limits("a")
    close(shares(floor.serve(100)), a=0.5, b=0.5)


@pytest.mark.parametrize("name", ["0", "zed"])
def test_a_new_tenants_job_is_the_very_next(floor: Floor, name: str) -> None:
    """Whatever its name: with equal times names decide."""
    floor.submit("a", 100)
    floor.submit("b", 100, num_images=2)
    floor.serve(31)
    (job_id,) = floor.submit(name, num_images=16)
    assert floor.take().id == job_id


def test_a_first_job_is_the_very_next_beside_one_that_has_the_worker_alone(floor: Floor) -> None:
    floor.submit("a", 5)
    floor.serve(1)
    (job_id,) = floor.submit("b")
    assert floor.take().id == job_id


def test_idling_earns_nothing(floor: Floor) -> None:
    floor.submit("a", 300)
    floor.submit("idle", 5)
    floor.serve(100)  # `idle` has had its five and gone
    assert served(floor.starts[:10])["idle"] == pytest.approx(served(floor.starts[:10])["a"])
    floor.submit("idle", 100)
    close(shares(floor.serve(60)), a=0.5, idle=0.5)


def test_a_pause_earns_nothing(floor: Floor) -> None:
    floor.submit("a", 300)
    floor.submit("paused", 100)
    floor.serve(20)
    floor.client.pause("tenant", "paused")
    assert shares(floor.serve(50)) == {"a": 1}
    floor.client.resume("tenant", "paused")
    close(shares(floor.serve(80)), a=0.5, paused=0.5)


def test_one_job_at_a_time_earns_no_more_than_many_that_wait(floor: Floor) -> None:
    floor.submit("many", 200)
    found = []
    for _ in range(100):
        if not floor.raw.zcard(floor.key("index", "queued", "single")):
            floor.submit("single")
        found += floor.serve(1)
    close(shares(found), many=0.5, single=0.5)


def test_what_jobs_took_is_what_counts(floor: Floor) -> None:
    """Those of `slow` take three times as long as their cost says."""
    floor.submit("fair", 300)
    floor.submit("slow", 300)
    _serve_slowly(floor, 40)
    took = {"fair": 0.0, "slow": 0.0}
    for start in _serve_slowly(floor, 160):
        took[start.tenant] += start.cost * (3 if start.tenant == "slow" else 1)
    assert took["slow"] / sum(took.values()) == pytest.approx(0.5, rel=0.1)


def _serve_slowly(floor: Floor, number: int) -> list[Start]:
    found = []
    for _ in range(number):
        start = floor.take()
        floor.pass_time(start.cost * PACE_MS / 1000 * (3 if start.tenant == "slow" else 1))
        floor.end(start)
        found.append(start)
    return found


def test_a_job_that_was_handed_back_at_once_costs_next_to_nothing(floor: Floor) -> None:
    floor.submit("a", 100)
    floor.submit("unlucky", 100)
    floor.serve(20)
    for _ in range(40):
        start = floor.take()
        if start.tenant == "unlucky":
            floor.pass_time(0.001)
            assert floor.io.run(claims.hand_back(start.claim, floor.rules))
            start = floor.take()
        floor.pass_time(start.cost * PACE_MS / 1000)
        floor.end(start)
    kept = [start for start in floor.starts if floor.client.get(start.id).state == "succeeded"]
    assert {start.tenant for start in kept} == {"a", "unlucky"}


def test_new_tenants_without_end_keep_nobody_from_being_served(floor: Floor) -> None:
    """Each comes with one job just as the worker is free: all of them would go before who has been served once."""
    floor.submit("old", 20)
    floor.serve(1)
    for number in range(60):
        floor.submit(f"new-{number}")
        floor.serve(1)
    assert served(floor.starts[1:])["old"] / served(floor.starts[1:]).total() > 0.15
