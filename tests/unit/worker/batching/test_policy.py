"""The policy under simulated loads: its promises hold for every call, and its choices pay."""

import random
from collections import Counter
from collections.abc import Hashable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.worker.batching.policy import BUCKETS, GROUPS, Batch, Policy, Waiting

from .simulation import Cost, Image, Simulation

LAUNCHES = {1: 0.034, 2: 0.035, 4: 0.036, 8: 0.04, 16: 0.06, 32: 0.1}  # a GPU at small sizes: rows cost little
LINEAR = {bucket: 0.025 * bucket for bucket in BUCKETS}  # a CPU: stacking gains nothing
Table = dict[int, float]


def table(costs: Table) -> Cost:
    return lambda _, bucket: costs[bucket]


def affine(rng: random.Random) -> Cost:
    """Every group has its own constant and seconds a row."""
    parts: dict[Hashable, tuple[float, float]] = {}

    def cost(group: Hashable, bucket: int) -> float:
        fixed, row = parts.setdefault(group, (rng.uniform(0, 0.04), rng.uniform(0.0005, 0.01)))
        return (fixed + row * bucket) * rng.uniform(0.9, 1.1)

    return cost


def informed(costs: Table, group: Hashable = "a", policy: Policy | None = None) -> Policy:
    """A policy after warm-up."""
    policy = policy or Policy()
    for bucket, seconds in costs.items():
        for _ in range(3):
            policy.ran(group, bucket, seconds)
    return policy


def calls(count: int, rows: int = 2, since: float = 0.0, group: Hashable = "a") -> list[Waiting]:
    return [Waiting(group, rows, since) for _ in range(count)]


def crowd(count: int = 16, steps: int = 30, think: float = 0.001, **rest: object) -> list[Image]:
    return [Image(steps=steps, think=think, arrives=0.003 * place, **rest) for place in range(count)]  # type: ignore[arg-type]


def load(rng: random.Random, images: int, pause: float) -> list[Image]:
    """Random images that come `pause` seconds apart on average; some are away for long, some cancelled."""
    found, now = [], 0.0
    for _ in range(images):
        now += rng.expovariate(1 / pause)
        image = Image(
            group=rng.choice("aaaabc"),
            rows=40 if rng.random() < 0.02 else rng.choice((1, 2, 2, 2, 3, 4)),
            steps=rng.randint(1, 8),
            arrives=now,
            think=rng.choice((0.0, 0.001, 0.002, 0.005)),
            away=rng.choice((0.0, 0.0, 0.0, 0.01, 1.0)),
            urgent=rng.random() < 0.7,
            solo=rng.random() < 0.1,
        )
        if rng.random() < 0.1:
            image.leaves = now + rng.uniform(0, 1)
        found.append(image)
    return found


def each_ran_as_often_as_it_asked(done: Simulation) -> None:
    ran = Counter(image for batch in done.batches for image in batch.images)
    for image in done.images:
        assert ran[image] == image.done
        assert ran[image] == image.steps or (image.leaves < image.ended and ran[image] < image.steps)


# Promises, under random loads. The simulation asserts them for every batch and call.


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), pause=st.sampled_from((0.001, 0.01, 0.05)))
def test_promises_hold_under_random_loads(seed: int, pause: float) -> None:
    rng = random.Random(seed)
    window, share = rng.choice((0.0, 0.02, 0.1)), rng.choice((0.05, 0.1, 0.5))
    policy = Policy(max_rows=rng.choice((4, 8, 32)), window=window, share=share)
    images = load(rng, 40, pause)
    each_ran_as_often_as_it_asked(Simulation(policy, affine(rng), images, window=window, share=share).run())


def test_promises_hold_over_thousands_of_arrivals() -> None:
    rng = random.Random(4)
    done = Simulation(Policy(), affine(rng), load(rng, 1500, 0.1)).run()
    each_ran_as_often_as_it_asked(done)
    assert len(done.batches) > 1500
    assert len(set(done.buckets)) == len(BUCKETS)


def test_a_caller_that_never_comes_back_holds_nobody_up_for_long() -> None:
    """The waiting bound, where there is company to hope for all the time."""
    images = [*crowd(3, steps=20, think=0.002), Image(steps=2, away=60.0)]
    Simulation(informed(LAUNCHES), table(LAUNCHES), images).run()
    assert max(image.ended for image in images[:3]) < 20 * 2 * 0.04 + 0.5


def test_every_group_goes_on_at_one_pace() -> None:
    images = [Image(group=group, steps=20, think=0.001) for group in "abcd" for _ in range(4)]
    Simulation(Policy(), table(LAUNCHES), images).run()
    ends = [image.ended for image in images]
    assert max(ends) < 1.1 * min(ends)


# Order and company, by single choices.


def test_nothing_to_do() -> None:
    assert Policy().choose([], {"a": 3}, 5.0) is None


def test_calls_of_one_group_go_together_and_the_oldest_group_first() -> None:
    waiting = [Waiting("b", 2, 2.0), Waiting("a", 2, 1.0), Waiting("b", 2, 1.5), Waiting("a", 1, 3.0)]
    policy = informed(LAUNCHES, "b", informed(LAUNCHES))
    assert policy.choose(waiting, {}, 4.0) == Batch((1, 3), 4)
    assert policy.choose([waiting[0], waiting[2]], {}, 4.1) == Batch((1, 0), 4)


def test_solo_calls_go_alone_in_the_smallest_bucket_and_do_not_wait() -> None:
    waiting = [Waiting("a", 3, 1.0, solo=True), *calls(2, since=1.1), Waiting("a", 1, 1.2, solo=True)]
    policy = informed(LAUNCHES)
    assert policy.choose(waiting, {"a": 5}, 1.3) == Batch((0,), 4)
    assert policy.choose(waiting[1:], {}, 1.3) == Batch((0, 1), 4)
    assert policy.choose(waiting[3:], {"a": 5}, 1.3) == Batch((0,), 1)


def test_company_is_waited_for_as_long_as_it_saves_and_the_window_is_open() -> None:
    saved = LAUNCHES[2] + LAUNCHES[2] - LAUNCHES[4]
    assert informed(LAUNCHES).choose(calls(1, since=7.0), {"a": 1}, 7.0) == pytest.approx(7.0 + saved)
    short = informed(LAUNCHES, "a", Policy(window=0.02))
    assert short.choose(calls(1, since=7.0), {"a": 1}, 7.0) == pytest.approx(7.02)
    assert short.choose(calls(1, since=7.0), {"a": 1}, 7.021) == Batch((0,), 2)
    assert short.choose(calls(2, since=7.0), {"a": 0}, 7.0) == Batch((0, 1), 4)


def test_newcomers_do_not_keep_the_window_open() -> None:
    policy = informed(LAUNCHES, "a", Policy(window=0.02))
    waiting = [*calls(1, since=7.0), *calls(1, since=7.01)]
    assert policy.choose(waiting, {"a": 9}, 7.01) == pytest.approx(7.02)
    assert policy.choose([*waiting, *calls(1, since=7.02)], {"a": 8}, 7.021) == Batch((0, 1, 2), 8)


@pytest.mark.parametrize("coming", [0, {}, {"b": 5}])
def test_nobody_waits_for_those_who_cannot_join(coming: int | dict[Hashable, int]) -> None:
    assert informed(LAUNCHES).choose(calls(1), coming, 0.0) == Batch((0,), 2)


def test_a_group_that_is_complete_does_not_wait_for_an_older_one_that_is_not() -> None:
    policy = informed(LAUNCHES, "b", informed(LAUNCHES))
    waiting = [*calls(1, since=1.0), *calls(2, since=1.01, group="b")]
    assert policy.choose(waiting, {"a": 3}, 1.01) == Batch((1, 2), 4)


def test_calls_that_came_while_their_company_ran_wait_for_it() -> None:
    """The window opens when the company's batch ends: else two halves would pass each other for ever."""
    policy = informed(LAUNCHES)
    assert policy.choose(calls(4, since=1.0), {}, 1.0) == Batch((0, 1, 2, 3), 8)
    assert policy.choose(calls(4, since=1.01), {"a": 4}, 1.04) == pytest.approx(1.04 + 2 * 0.04 - 0.06)
    assert policy.choose(calls(8, since=1.01), {}, 1.05) == Batch(tuple(range(8)), 16)


def test_solo_calls_of_a_group_do_not_keep_its_window_open() -> None:
    """One image is away, and a solo image calls again before each window is over."""
    policy = informed(LAUNCHES)
    waits, now = calls(1), 0.0
    while now < 10:
        solo = Waiting("a", 2, now, solo=True)
        chosen = policy.choose([*waits, solo], {"a": 1}, now)
        assert isinstance(chosen, Batch)
        if chosen.calls == (0,):
            break
        now += LAUNCHES[chosen.bucket] + 0.003
    assert now <= 2 * LAUNCHES[2] - LAUNCHES[4] + LAUNCHES[2] + 0.003


def test_the_window_opens_when_a_batch_ends_though_nobody_asks_before_other_work_is_done() -> None:
    policy = informed(LAUNCHES)
    assert policy.choose(calls(2), {}, 0.0) == Batch((0, 1), 4)
    policy.ended(0.036)
    assert policy.choose(calls(1, since=0.04), {"a": 1}, 1.0) == Batch((0,), 2)


def test_nobody_waits_where_stacking_gains_nothing() -> None:
    assert informed(LINEAR).choose(calls(1), {"a": 15}, 0.0) == Batch((0,), 2)
    hardly = {bucket: 0.001 + 0.025 * bucket for bucket in BUCKETS}
    assert informed(hardly).choose(calls(1), {"a": 15}, 0.0) == Batch((0,), 2)
    done = Simulation(informed(LINEAR), table(LINEAR), crowd(steps=10)).run()
    assert done.stood == 0


# Buckets, splits and caps.


@pytest.mark.parametrize(
    ("costs", "parts"),
    [
        (LAUNCHES | {32: 0.1}, [16, 2]),
        (LAUNCHES | {32: 0.09}, [32]),
        ({bucket: 0.01 + 0.02 * bucket for bucket in BUCKETS}, [16, 2]),
        ({bucket: 0.2 + 0.001 * bucket for bucket in BUCKETS}, [32]),
    ],
)
def test_padding_or_a_second_call_whichever_is_cheaper(costs: Table, parts: list[int]) -> None:
    policy, waiting, buckets = informed(costs), calls(9), []
    while isinstance(batch := policy.choose(waiting, {"a": 9 - len(waiting)}, 1.0), Batch):
        buckets.append(batch.bucket)
        waiting = waiting[len(batch.calls) :]
    assert not waiting
    assert buckets == parts


def test_what_was_split_off_goes_next_without_a_new_window() -> None:
    policy = informed(LAUNCHES)
    assert policy.choose(calls(9, since=1.0), {}, 1.0) == Batch(tuple(range(8)), 16)
    assert policy.choose(calls(1, since=1.0), {"a": 8}, 1.06) == Batch((0,), 2)


def test_a_limit_of_memory_holds_from_then_on_and_only_gets_less() -> None:
    policy = informed(LAUNCHES)
    policy.limit("a", 9)
    policy.limit("a", 20)
    assert (policy.cap("a"), policy.cap("b")) == (8, 32)
    images = crowd(steps=5) + crowd(steps=5, group="b")
    done = Simulation(policy, table(LAUNCHES), images).run()
    assert max(batch.bucket for batch in done.batches if batch.images[0].group == "a") == 8
    assert max(batch.bucket for batch in done.batches if batch.images[0].group == "b") == 32
    policy.limit("a", 0)
    assert policy.cap("a") == 1
    assert policy.choose(calls(2), {}, 9.0) == Batch((0,), 1)  # for the owner to divide by rows
    assert policy.bucket_for("a", 5) == 8


def test_a_dropped_bucket_is_not_used() -> None:
    policy = informed(LAUNCHES)
    policy.drop(4, "a")
    assert policy.choose(calls(2), {}, 0.0) == Batch((0, 1), 8)
    assert policy.bucket_for("a", 3) == 8
    policy.drop(32, "a")
    assert policy.cap("a") == 16
    done = Simulation(policy, table(LAUNCHES), crowd(steps=5)).run()
    assert not {4, 32} & set(done.buckets)
    for bucket in BUCKETS:
        policy.drop(bucket, "a")
    assert policy.bucket_for("a", 40) == policy.cap("a") == 16


def test_a_dropped_bucket_is_dropped_for_all_calls_of_the_same_module() -> None:
    policy = Policy()
    policy.limit((1, "small"), 16)
    policy.drop(8, (1, "large"))
    assert policy.bucket_for((1, "large"), 5) == policy.bucket_for((1, "new"), 5) == 16
    policy.drop(16, (1, "large"))
    assert policy.cap((1, "small")) == 4
    assert policy.bucket_for((2, "large"), 5) == 8
    assert policy.cap((2, "large")) == 32


def test_a_worker_may_set_its_largest_batch() -> None:
    done = Simulation(Policy(max_rows=4), table(LAUNCHES), crowd(steps=5)).run()
    assert max(done.buckets) == 4


# What it gains.


def alone(images: list[Image], costs: Table) -> Simulation:
    """The same load, one image a model call."""
    return Simulation(informed(costs, "a", Policy(max_rows=2)), table(costs), images).run()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    factors=st.lists(st.floats(1.0, 2.2), min_size=5, max_size=5), start=st.floats(0.001, 0.1), seed=st.integers(0, 999)
)
def test_a_load_is_done_no_later_than_one_at_a_time(factors: list[float], start: float, seed: int) -> None:
    """Whatever twice the rows cost, from nothing more to more than twice."""
    costs = {1: start}
    for (smaller, bucket), factor in zip(pairwise(BUCKETS), factors, strict=True):
        costs[bucket] = costs[smaller] * factor
    rng = random.Random(seed)
    asked = [(rng.randint(5, 20), rng.uniform(0.0, 0.005), rng.uniform(0, 0.3)) for _ in range(12)]
    several, single = (
        [Image(steps=steps, think=think, arrives=arrives) for steps, think, arrives in asked] for _ in range(2)
    )
    done = Simulation(informed(costs), table(costs), several).run()
    assert done.ended <= 1.02 * alone(single, costs).ended + sum(costs.values())


def test_stacking_is_worth_it_without_any_warm_up() -> None:
    done = Simulation(Policy(), table(LAUNCHES), crowd()).run()
    assert done.ended < alone(crowd(), LAUNCHES).ended / 4
    assert Counter(done.buckets).most_common(1)[0][0] == 32


def test_one_image_alone_never_stands_still() -> None:
    done = Simulation(Policy(), table(LAUNCHES), crowd(1)).run()
    assert done.stood == 0
    assert set(done.buckets) == {2}


def test_two_halves_in_turn_where_the_gap_is_large() -> None:
    """0.06 s for half, 0.1 s for all: turns are worth it from a gap of 0.02 s on, 16 callers one after another."""
    for think, usual, most in ((0.001, 32, 0.116), (0.003, 16, 0.12), (0.005, 16, 0.12)):
        done = Simulation(informed(LAUNCHES), table(LAUNCHES), crowd(steps=60, think=think)).run()
        assert Counter(done.buckets).most_common(1)[0][0] == usual
        assert done.ended < 1.05 * 60 * most


def test_urgent_images_end_sooner() -> None:
    """Also in one group, where a model call has no room for all."""
    images = crowd(8, urgent=False) + crowd(8)
    Simulation(informed(LAUNCHES, "a", Policy(max_rows=8)), table(LAUNCHES), images).run()
    urgent, others = ([image.ended for image in images if image.urgent is lane] for lane in (True, False))
    assert max(urgent) < 0.7 * min(others)


# What it learns.


def test_one_slow_first_call_is_not_believed() -> None:
    policy = Policy()
    for bucket in (2, 4, 8):
        policy.ran("a", bucket, LAUNCHES[bucket])
    policy.ran("a", 16, 10.0)
    assert policy.choose(calls(8), {}, 0.0) == Batch(tuple(range(8)), 16)


def test_a_slow_minute_does_not_shut_a_bucket_for_good() -> None:
    policy = informed(LAUNCHES | {32: 1.0})
    assert policy.choose(calls(16), {}, 0.0) == Batch(tuple(range(8)), 16)
    done = Simulation(policy, table(LAUNCHES), crowd(steps=400)).run()
    assert done.buckets[-40:].count(32) > 30


def test_a_change_of_pace_is_followed() -> None:
    policy = informed(LINEAR)
    for _ in range(9):
        for bucket, seconds in LAUNCHES.items():
            policy.ran("a", bucket, seconds)
    assert isinstance(policy.choose(calls(1), {"a": 1}, 0.0), float)


def test_other_groups_are_forgotten_before_those_in_use() -> None:
    policy = Policy()
    policy.limit("kept", 4)
    policy.limit("idle", 4)
    for other in range(GROUPS - 1):
        policy.ran(other, 2, 0.1)
        policy.ran("kept", 2, 0.1)
    assert (policy.cap("kept"), policy.cap("idle")) == (4, 32)
