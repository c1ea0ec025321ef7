"""Fairness over the lanes that a worker reads: of several models, with needs, of classes that go before others."""

from collections import Counter
from itertools import pairwise

import pytest

from darkroom.tasks.claims import Claim

from .floor import Floor, shares


def even(**wanted: float) -> object:
    return pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("order", [("sdxl", "sd-1.5"), ("sd-1.5", "sdxl")])
def test_jobs_for_two_models_earn_no_more_than_for_one(two_models: Floor, order: tuple[str, str]) -> None:
    """Whichever lane is read first."""
    two_models.submit("both", 80, model="sdxl")
    two_models.submit("both", 80, model="sd-1.5")
    two_models.submit("one", 80, model="sdxl")
    found = two_models.serve(120, *order)
    assert shares(found) == even(both=0.5, one=0.5)
    models = Counter(start.place.model for start in found if start.tenant == "both")
    assert abs(models["sdxl"] - models["sd-1.5"]) <= 2


@pytest.mark.parametrize("order", [("sdxl", "sd-1.5"), ("sd-1.5", "sdxl")])
def test_tenants_of_different_models_share_the_worker(two_models: Floor, order: tuple[str, str]) -> None:
    """Jobs that cost little with one model do not starve those that cost much with another."""
    two_models.submit("large", 30, model="sdxl", num_images=8)
    two_models.submit("small", 250, model="sd-1.5")
    assert shares(two_models.serve(200, *order)) == even(large=0.5, small=0.5)


def test_a_newcomer_is_the_very_next_with_any_model(two_models: Floor) -> None:
    two_models.submit("a", 60, model="sdxl")
    two_models.submit("b", 60, model="sd-1.5")
    two_models.serve(41)
    for number, model in enumerate(("sdxl", "sd-1.5")):
        (job_id,) = two_models.submit(f"new-{number}", model=model)
        assert two_models.take().id == job_id
        two_models.serve(3)


@pytest.mark.parametrize("order", [("sdxl", "sd-1.5"), ("sd-1.5", "sdxl")])
@pytest.mark.parametrize(("others", "wanted"), [(1, 1 / 3), (4, 1 / 5)])
def test_workers_of_which_others_have_one_model(
    two_models: Floor, order: tuple[str, str], others: int, wanted: float
) -> None:
    """All have the same of them all; but nobody more than the workers do that can serve it."""
    for tenant, model in (("a", "sdxl"), ("b", "sd-1.5"), ("c", "sdxl")):
        two_models.submit(tenant, 150, model=model)
    found = []
    for _ in range(48):
        found += two_models.serve(1, *order) + two_models.serve(others, "sdxl")
    rest = (1 - wanted) / 2
    assert shares(found) == even(a=rest, b=wanted, c=rest)
    (job_id,) = two_models.submit("new", model="sd-1.5")  # however far `b` has fallen behind
    assert job_id in [start.id for start in two_models.serve(2, *order)]


def test_models_take_turns_for_one_tenant(two_models: Floor) -> None:
    two_models.submit("a", 20, model="sdxl")
    two_models.submit("a", 20, model="sd-1.5")
    models = [start.place.model for start in two_models.serve(20)]
    assert all(one != other for one, other in pairwise(models))


def test_lanes_with_needs_earn_no_more(floor: Floor) -> None:
    for priority in (1, 3, 5):
        floor.submit("split", 40, priority=priority)
    floor.submit("plain", 100)
    assert shares(floor.serve(100)) == even(split=0.5, plain=0.5)


def test_a_worker_that_lacks_what_a_job_needs_takes_the_others(floor: Floor) -> None:
    floor.submit("a", 3, priority=5)
    (plain,) = floor.submit("b")
    home = [place for place in floor.places() if not place.needs]
    assert floor.take(places=home).id == plain
    assert not isinstance(floor.ask(places=home), Claim)
    assert [start.tenant for start in floor.serve(3)] == ["a"] * 3


def test_interactive_before_bulk_which_has_its_share(floor: Floor) -> None:
    floor.submit("a", 300, lane="bulk")
    floor.submit("b", 450)
    found = floor.serve(400)
    assert sum(start.cost for start in found if start.place.lane == "bulk") / sum(
        start.cost for start in found
    ) == pytest.approx(0.05, rel=0.05)
    assert found[0].place.lane == "interactive"


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_the_share_of_bulk_can_be_set(floor: Floor, share: float) -> None:
    floor.submit("a", 100, lane="bulk", num_images=2)
    floor.submit("b", 300)
    found = floor.serve(200, share=share)
    bulk = sum(start.cost for start in found if start.place.lane == "bulk")
    assert bulk / sum(start.cost for start in found) == pytest.approx(share, rel=0.05)


def test_the_share_is_the_same_in_whatever_order_lanes_are_read(two_models: Floor) -> None:
    two_models.submit("a", 100, lane="bulk", num_images=4)
    two_models.submit("b", 400)
    found = []
    for _ in range(100):
        found += two_models.serve(1, "sdxl", "sd-1.5") + two_models.serve(1, "sd-1.5", "sdxl")
    bulk = [start.cost for start in found if start.place.lane == "bulk"]
    first = next(i for i, start in enumerate(found) if start.place.lane == "bulk")
    assert sum(bulk) / sum(start.cost for start in found) == pytest.approx(0.05, abs=0.02)
    assert first <= 4 * 19 + 1


def test_all_of_the_worker_is_bulks_while_nothing_is_interactive(floor: Floor) -> None:
    floor.submit("a", 10, lane="bulk")
    floor.submit("b", 3)
    lanes = [start.place.lane for start in floor.serve(13)]
    assert lanes == ["interactive"] * 3 + ["bulk"] * 10


def test_tenants_share_bulk_however_long_it_waited_behind_interactive(floor: Floor) -> None:
    """Who comes anew in bulk does not make up for all that interactive jobs had before."""
    floor.submit("old", 100, lane="bulk")
    floor.submit("people", 200)
    floor.serve(200)
    (job_id,) = floor.submit("new", lane="bulk")
    floor.submit("new", 60, lane="bulk")
    assert floor.take().place.lane == "interactive"
    floor.serve(floor.raw.zcard(floor.key("queued", "sdxl:interactive")))
    found = floor.serve(80)
    assert job_id in [start.id for start in found[:2]]
    assert shares(found) == even(old=0.5, new=0.5)


def test_trainings_come_last_and_have_their_share(floor: Floor) -> None:
    dataset = f"inputs/t/{'0' * 64}.zip"
    asked = {"kind": "finetune", "model": "sdxl", "name": "dots", "dataset": dataset, "num_train_steps": 100}
    training = floor.client.submit({**asked, "tenant": "t"}).id
    floor.submit("a", 60)
    found = floor.serve(60, share=0.25)
    before = sum(start.cost for start in found[: [start.id for start in found].index(training)])
    assert before == pytest.approx(3 * floor.cost(training), rel=0.1)
