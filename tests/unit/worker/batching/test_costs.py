"""What model calls cost, from few measurements."""

import pytest

from darkroom.worker.batching.costs import DOUBT, KEPT, Costs


def measured(*found: tuple[int, float]) -> Costs:
    costs = Costs()
    for bucket, seconds in found:
        costs.ran(bucket, seconds)
        costs.ran(bucket, seconds)
    return costs


def test_before_any_measurement_stacking_is_assumed_to_pay() -> None:
    costs = Costs()
    assert costs.of(1) < costs.of(2) < 2 * costs.of(1)


def test_one_measured_bucket_gives_the_scale_for_the_others() -> None:
    costs = measured((2, 0.3))
    assert costs.of(2) == 0.3
    assert 0.15 < costs.of(1) < 0.3 < costs.of(4) < 0.6


@pytest.mark.parametrize(
    ("found", "bucket", "seconds"),
    [
        (((2, 0.1), (8, 0.4)), 4, 0.2),  # between
        (((2, 0.1), (4, 0.12), (16, 0.36)), 8, 0.2),  # between the nearest
        (((4, 0.1), (8, 0.14)), 16, 0.22),  # beyond
        (((8, 0.1), (4, 0.08)), 2, 0.07),  # below
        (((4, 0.1), (8, 0.09)), 32, 0.09),  # more rows, never less time
        (((2, 0.1), (4, 0.5)), 16, 2.0),  # nor more than in proportion
        (((8, 0.1), (16, 0.4)), 2, 0.025),
    ],
)
def test_unmeasured_buckets_are_estimated(found: tuple[tuple[int, float], ...], bucket: int, seconds: float) -> None:
    assert measured(*found).of(bucket) == pytest.approx(seconds)


def test_a_bucket_costs_the_median_of_its_newest_measurements() -> None:
    costs = measured((2, 0.1))
    for seconds in (0.1, 9.0, 0.12):
        costs.ran(2, seconds)
    assert costs.of(2) == 0.1
    for seconds in [0.2] * 5 * KEPT + [0.3] * KEPT:
        costs.ran(2, seconds)
    assert costs.of(2) == 0.3


def test_a_single_measurement_is_believed_only_if_it_is_good() -> None:
    costs = measured((2, 0.1), (4, 0.12))
    costs.ran(8, 5.0)
    assert costs.of(8) == pytest.approx(0.16)
    costs.ran(8, 0.14)
    assert costs.of(8) == 0.14
    costs.ran(16, 0.15)
    assert costs.of(16) == 0.15


def test_what_was_long_not_measured_is_doubted() -> None:
    costs = measured((2, 0.1), (4, 0.12), (8, 5.0))
    for _ in range(2 * DOUBT):
        costs.ran(4, 0.12)
    assert costs.of(8) == pytest.approx(0.16)


def test_the_price_is_that_of_the_cheapest_division() -> None:
    costs = measured((1, 0.03), (2, 0.035), (16, 0.06), (32, 0.1))
    buckets = (1, 2, 16, 32)
    assert costs.price(0, buckets) == 0
    assert costs.price(3, buckets) == pytest.approx(0.06)
    assert costs.price(18, buckets) == pytest.approx(0.06 + 0.035)
    assert costs.price(20, buckets) == pytest.approx(0.1)
    assert costs.price(50, buckets) == pytest.approx(0.1 + 0.06 + 0.035)
    assert costs.price(4, (1, 2)) == pytest.approx(0.07)
    for _ in range(KEPT):
        costs.ran(2, 0.001)
    assert costs.price(4, (1, 2)) == pytest.approx(0.002)
