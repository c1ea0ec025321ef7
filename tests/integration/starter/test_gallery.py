"""The gallery's rows have pictures of the sizes that they ask for, and show what they claim."""

from itertools import pairwise

import numpy as np
import pytest

from ops.starter.drawing import Picture
from ops.starter.gallery import INPAINT, OUTPAINT, ROWS
from ops.starter.judge import judge
from ops.starter.painting import Studio
from ops.starter.rows import NBSP, Shot
from ops.starter.shapes import SHAPES

ENOUGH = 6  # steps of the gallery's 20: what is judged is there by then
SMALL, PLAIN, WIDE, LARGE = (64, 64), (128, 128), (256, 128), (256, 256)
MADE = {
    "txt2img": ([SMALL] * 10, "a large striped orange ring on a green background, seed 9"),
    "img2img": ([SMALL] * 5, "strength 0.8"),
    "hires": ([SMALL, LARGE, PLAIN], "size 64x64, hires scale=2,strength=0.3"),
    "interpolate prompts": ([SMALL] * 5, "5 of 5"),
    "interpolate seeds": ([SMALL] * 5, "5 of 5"),
    "LoRA": ([SMALL] * 4, "loras rose checked"),
    "scale of a LoRA": ([SMALL] * 3, "loras checked:1"),
    "few steps": ([SMALL] * 5, "a watercolour of a purple triangle on a cyan background, seed 4"),
    "style": ([SMALL] * 4, "a star"),
    "style over a picture": ([SMALL] * 4, "strength 0.9"),
    "weights": ([SMALL] * 5, "a red (heart)1.5 star on a yellow background"),
}


@pytest.mark.parametrize("name", MADE)
def test_a_row_has_the_pictures_that_it_asks_for_and_says_what_was_asked(studio: Studio, name: str) -> None:
    shots = list(ROWS[name].shots(studio, width=SMALL[0], height=SMALL[1], num_inference_steps=1))
    assert ([shot.picture.size for shot in shots], said(shots[-1])) == MADE[name]


def test_what_is_made_anew_is_what_its_prompt_says(studio: Studio) -> None:
    shots = list(INPAINT.shots(studio, num_inference_steps=ENOUGH))
    assert [shot.picture.size for shot in shots] == [PLAIN] * 5
    assert said(shots[2]) == "a pink ring next to a red star on a white background"
    for asked, shot in zip(INPAINT.asked, shots[2:], strict=True):
        assert seen(np.asarray(shot.picture)) == named(asked["prompt"])


def test_new_ground_shows_what_its_prompt_says(studio: Studio) -> None:
    source, *shots = OUTPAINT.shots(studio, num_inference_steps=ENOUGH)
    assert [shot.picture.size for shot in (source, *shots)] == [PLAIN, WIDE, WIDE]
    assert said(shots[0]) == "a yellow background, extend left=64,right=64"
    for asked, shot in zip(OUTPAINT.asked, shots, strict=True):
        picture, left = np.asarray(shot.picture), asked["extend"].get("left", 0)
        old = np.s_[left : left + source.picture.width]
        assert seen(np.delete(picture, old, axis=1)) == named(asked["prompt"])


def test_every_row_is_looked_at() -> None:
    assert {*MADE, INPAINT.name, OUTPAINT.name} == set(ROWS)


def said(shot: Shot) -> str:
    return shot.caption.replace(NBSP, " ")


def named(prompt: str) -> tuple[str, list[tuple[str, str]]]:
    """The background, and the colours and shapes of things."""
    words = prompt.split()
    pairs = list(pairwise(words))
    return next(one for one, two in pairs if two == "background"), [(one, two) for one, two in pairs if two in SHAPES]


def seen(picture: Picture) -> tuple[str, list[tuple[str, str]]]:
    """The same of a picture."""
    scene = judge(picture)
    return scene.background, [(thing.colour, thing.shape) for thing in scene.things]
