"""The order of a training: from the seed and the step's number, whatever was asked before."""

from collections import Counter
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.tasks.fields import MAX_SEED
from darkroom.worker.training.buckets import CENTRE
from darkroom.worker.training.plan import Draw, Plan, class_image_seed, prior_seed

WIDE, TALL, SQUARE = (96, 48), (48, 96), (64, 64)

PLANS = st.builds(
    Plan,
    buckets=st.lists(st.sampled_from([WIDE, TALL, SQUARE]), min_size=1, max_size=23),
    batch_size=st.integers(1, 6),
    accumulation=st.integers(1, 4),
    seed=st.integers(0, 2**64 - 1),
    flip=st.booleans(),
    caption_dropout=st.floats(0, 1),
    random_crop=st.booleans(),
)


def plan(number: int = 20, seed: int = 7, **fields: Any) -> Plan:
    buckets = [(WIDE, TALL, SQUARE)[index % 3] for index in range(number)]
    return Plan(**{"buckets": buckets, "batch_size": 2, "accumulation": 2, "seed": seed, **fields})


def steps(one: Plan, number: int) -> list[tuple[Draw, ...]]:
    return [one.batch(step, micro) for step, micro in product(range(number), range(one.accumulation))]


def epoch(one: Plan, number: int) -> list[tuple[Draw, ...]]:
    """All batches of an epoch; an epoch may begin within a step."""
    places = range(number * one.epoch_batches, (number + 1) * one.epoch_batches)
    return [one.batch(*divmod(place, one.accumulation)) for place in places]


@settings(max_examples=60, deadline=None)
@given(one=PLANS, number=st.integers(0, 50))
def test_an_epoch_has_every_example_once(one: Plan, number: int) -> None:
    """But for those that fill the last batch of a bucket up, and no more of them than that takes."""
    batches = epoch(one, number)
    seen = Counter(draw.example for batch in batches for draw in batch)
    assert seen.keys() == set(range(len(one.buckets)))
    for bucket, there in Counter(one.buckets).items():
        total = sum(count for example, count in seen.items() if one.buckets[example] == bucket)
        assert total == -(-there // one.batch_size) * one.batch_size
    if all(there % one.batch_size == 0 for there in Counter(one.buckets).values()):
        assert set(seen.values()) == {1}


@settings(max_examples=60, deadline=None)
@given(one=PLANS, number=st.integers(0, 10_000))
def test_a_batch_is_of_one_bucket_and_full(one: Plan, number: int) -> None:
    batch = one.batch(number, number % one.accumulation)
    assert len(batch) == one.batch_size
    (bucket,) = {one.buckets[draw.example] for draw in batch}
    there = one.buckets.count(bucket)
    counts = Counter(draw.example for draw in batch)
    assert max(counts.values()) <= -(-one.batch_size // there), "none twice while there are others"
    assert len({draw.key for draw in batch}) == len(batch)
    for draw in batch:
        assert 0 <= draw.key < 2**63
        assert all(0 <= part < 1 for part in draw.crop)
        assert one.flip or not draw.flip
        assert one.random_crop or draw.crop == CENTRE


@settings(max_examples=40, deadline=None)
@given(one=PLANS, order=st.permutations(range(8)))
def test_a_batch_is_the_same_whatever_was_asked_before(one: Plan, order: list[int]) -> None:
    first = {number: one.batch(number, 0) for number in range(8)}
    fresh = Plan(*(getattr(one, name) for name in Plan.__dataclass_fields__))
    for number in order:
        assert fresh.batch(number, 0) == first[number]


def test_a_seed_stands_for_these_numbers() -> None:
    """In every process and release: a training may be resumed by a worker that is newer."""
    one = Plan([SQUARE] * 5, 2, 1, 7, flip=True, caption_dropout=0.5)
    found = [[(draw.example, draw.flip, draw.drop_caption, draw.key) for draw in one.batch(step, 0)] for step in (0, 9)]
    assert found == [
        [(1, True, False, 4644476419613661784), (0, False, False, 6005025465065508258)],
        [(0, True, True, 6312960663988038503), (1, False, True, 3456934159425110888)],
    ]


def test_another_seed_is_another_training() -> None:
    one, other = steps(plan(seed=1), 20), steps(plan(seed=2), 20)
    assert [[draw.example for draw in batch] for batch in one] != [[draw.example for draw in batch] for batch in other]
    assert not {draw.key for batch in one for draw in batch} & {draw.key for batch in other for draw in batch}


def test_another_epoch_has_another_order() -> None:
    one = plan()
    epochs = [[draw.example for batch in epoch(one, number) for draw in batch] for number in range(10)]
    assert len({tuple(examples) for examples in epochs}) == 10
    assert len({tuple(one.buckets[example] for example in examples) for examples in epochs}) == 10
    assert len({tuple(example for example in examples if one.buckets[example] == WIDE) for examples in epochs}) == 10


def test_another_bucket_has_another_order() -> None:
    one = Plan([WIDE] * 9 + [TALL] * 9, 9, 1, 5)
    first, second = ([draw.example % 9 for draw in batch] for batch in epoch(one, 0))
    assert sorted(first) == sorted(second) == list(range(9))
    assert first != second


def test_a_batch_is_filled_up_with_examples_that_it_lacks() -> None:
    one = Plan([SQUARE] * 5, 3, 1, 5)
    filled = [sorted(draw.example for draw in one.batch(step, 0)) for step in range(100)]
    assert all(len(set(examples)) == 3 for examples in filled)
    assert len(set(map(tuple, filled))) == 10, "any three of five"


def test_a_batch_is_filled_up_from_the_next_order() -> None:
    one = Plan([SQUARE] * 5, 10, 1, 5)
    orders = [[draw.example for draw in one.batch(step, 0)] for step in range(4)]
    assert all(before[5:] == after[:5] for before, after in pairwise(orders))
    assert len({tuple(order[:5]) for order in orders}) == 4


def test_buckets_take_turns() -> None:
    """Batches of a bucket do not come in one row."""
    one = plan(60)
    turns = [one.buckets[batch[0].example] for batch in epoch(one, 0)]
    assert sum(before != after for before, after in pairwise(turns)) > 10


def test_orders_are_even() -> None:
    """Each example comes first in an epoch about as often as any other."""
    one = Plan([SQUARE] * 6, 1, 1, 11)
    firsts = Counter(one.batch(6 * number, 0)[0].example for number in range(1200))
    assert all(150 < firsts[example] < 250 for example in range(6))


def test_draws_are_as_often_as_asked() -> None:
    one = plan(flip=True, caption_dropout=0.2, random_crop=True)
    draws = [draw for batch in steps(one, 1000) for draw in batch]
    assert len(draws) == 4000
    assert sum(draw.flip for draw in draws) / 4000 == pytest.approx(0.5, abs=0.04)
    assert sum(draw.drop_caption for draw in draws) / 4000 == pytest.approx(0.2, abs=0.03)
    for side in (0, 1):
        assert sum(draw.crop[side] for draw in draws) / 4000 == pytest.approx(0.5, abs=0.03)
    both = sum(draw.flip and draw.drop_caption for draw in draws) / 4000
    assert both == pytest.approx(0.1, abs=0.03), "one draw says nothing of another"
    assert len({draw.key for draw in draws}) == 4000


@pytest.mark.parametrize(("dropout", "expected"), [(0.0, False), (1.0, True)])
def test_never_and_always(dropout: float, expected: bool) -> None:
    draws = [draw for batch in steps(plan(caption_dropout=dropout), 100) for draw in batch]
    assert {draw.drop_caption for draw in draws} == {expected}
    assert {(draw.flip, draw.crop) for draw in draws} == {(False, CENTRE)}


def test_a_lone_example_of_a_bucket_fills_its_batch() -> None:
    one = Plan([SQUARE, WIDE, SQUARE], 4, 1, 3)
    by_size = {one.buckets[batch[0].example]: [draw.example for draw in batch] for batch in epoch(one, 0)}
    assert by_size[WIDE] == [1, 1, 1, 1]
    assert Counter(by_size[SQUARE]) == {0: 2, 2: 2}


def test_epochs_are_counted() -> None:
    one = plan()
    assert one.epoch_batches == 4 + 4 + 3
    assert [one.epoch(step) for step in (0, 5, 6, 10, 11)] == [0, 0, 1, 1, 2]


def test_a_late_step_costs_what_the_first_one_does() -> None:
    assert len(plan().batch(10**12, 1)) == 2


@pytest.mark.parametrize(("step", "micro"), [(-1, 0), (0, -1), (0, 2)])
def test_no_such_batch(step: int, micro: int) -> None:
    with pytest.raises(IndexError, match="there is no batch"):
        plan().batch(step, micro)


@pytest.mark.parametrize("fields", [{"buckets": []}, {"batch_size": 0}, {"accumulation": 0}])
def test_a_plan_of_nothing(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a plan needs"):
        plan(**fields)


def test_class_pictures_have_seeds_of_their_own_which_stay_as_they_are() -> None:
    seeds = [class_image_seed(7, index) for index in range(1000)]
    assert len({*seeds, prior_seed(7), 7}) == 1002 and max(seeds) <= MAX_SEED
    assert (seeds[0], seeds[999], prior_seed(7)) == (7706162865253642, 1573063297888227, 1198870214662976)


@given(PLANS)
@settings(deadline=None, max_examples=50)
def test_no_batch_is_larger_than_the_largest(one: Plan) -> None:
    step, micro = one.largest()
    (size,) = {one.buckets[draw.example] for draw in one.batch(step, micro)}
    assert size[0] * size[1] == max(wide * high for wide, high in one.buckets)
    assert step * one.accumulation + micro < one.epoch_batches
