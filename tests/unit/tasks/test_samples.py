"""Which samples of a training are made when."""

import pytest

from darkroom.tasks.fields import MAX_SEED
from darkroom.tasks.requests.samples import MOST_PROMPTS, MOST_SAMPLES, SamplePlan, usual_every


def plan(prompts: int = 2, every: int = 4, steps: int = 6, seed: int = 7) -> SamplePlan:
    return SamplePlan(("a dot",) * prompts, every, steps, seed)


@pytest.mark.parametrize("every", range(1, 9))
@pytest.mark.parametrize("steps", [1, 6, 7, 8])
def test_numbers_follow_one_another_to_the_last(every: int, steps: int) -> None:
    found = plan(3, every, steps)
    starts = [first for step in range(steps + 1) if (first := found.first_at(step)) is not None]
    assert starts == list(range(0, found.count, 3))
    assert found.first_at(0) == 0 and found.first_at(steps) == found.count - 3


def test_rounds_are_before_the_first_step_after_each_nth_and_after_the_last() -> None:
    assert [plan().first_at(step) for step in range(7)] == [0, None, None, None, 2, None, 4]


def test_without_prompts_there_are_none() -> None:
    assert [plan(0).first_at(step) for step in (0, 4, 6)] == [None] * 3 and plan(0).count == 0


def test_seeds_count_up_and_begin_anew_after_the_largest() -> None:
    assert [plan(seed=MAX_SEED).seed_of(prompt) for prompt in range(2)] == [MAX_SEED, 0]


@pytest.mark.parametrize("steps", [1, 9, 15, 19, 25, 500, 20_000])
def test_what_is_usual_is_never_too_much(steps: int) -> None:
    assert plan(MOST_PROMPTS, usual_every(steps), steps).count <= MOST_SAMPLES
