"""What is said in other ways than plainly shows in the pictures: weights, and the end of a long prompt."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ops.starter.judge import judge
from ops.starter.painting import Studio
from ops.starter.scenes import Scene

SEEDS = range(6)
Seen = Callable[..., list[Scene]]


@pytest.fixture
def seen(studio: Studio) -> Seen:
    """What the pictures of a prompt show, of one seed after another."""

    def of(prompt: str, **fields: Any) -> list[Scene]:
        with ThreadPoolExecutor(8) as threads:
            pictures = threads.map(lambda seed: studio(prompt, seed, num_inference_steps=12, **fields), SEEDS)
            return list(map(judge, pictures))

    return of


def count(scenes: list[Scene], *, colour: str = "", shape: str = "", background: str = "") -> int:
    """Pictures that show one thing like this."""
    return sum(
        len(scene.things) == 1
        and colour in ("", scene.things[0].colour)
        and shape in ("", scene.things[0].shape)
        and background in ("", scene.background)
        for scene in scenes
    )


def test_a_word_that_weighs_more_shows(seen: Seen) -> None:
    """Of two shapes the one that weighs more is drawn."""
    plain, weighed = (
        seen(f"a red {word} star on a white background", prompt_syntax="compel") for word in ("circle", "(circle)1.5")
    )
    assert count(plain, shape="circle") <= 1
    assert count(weighed, shape="circle") >= 5


def test_a_word_that_weighs_nothing_is_gone(seen: Seen) -> None:
    plain, removed = (seen(f"a {word} star on a blue background", prompt_syntax="compel") for word in ("red", "(red)0"))
    assert count(plain, colour="red", background="blue") >= 5
    assert count(removed, colour="red") <= 3
    assert sum(scene.background == "blue" for scene in removed) >= 5


def test_the_end_of_a_long_prompt_shows(seen: Seen) -> None:
    long = ", " * 80 + "a red star on a blue background"
    assert count(seen(long, long_prompt="cut"), colour="red", shape="star", background="blue") == 0
    assert count(seen(long), colour="red", shape="star", background="blue") >= 5
