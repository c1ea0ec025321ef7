"""What the model is fine-tuned on: drawn as it is judged, and apart from what is asked for afterwards."""

import zipfile
from io import BytesIO

import numpy as np
import pytest

from ops.starter.drawing import draw
from ops.starter.finetuning import LESSONS, PICTURES, drawn_set, new_prompts, zipped
from ops.starter.judge import TAUGHT_ALL, judge
from ops.starter.lessons import Lesson, shows
from ops.starter.paints import COLOURS
from ops.starter.scenes import draw_lot


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda one: one.word)
def test_a_data_set_shows_its_word_and_nothing_that_is_asked_for_later(lesson: Lesson) -> None:
    pictures, asked = drawn_set(lesson), new_prompts(lesson, 40)
    assert len(pictures) == PICTURES and all(lesson.word in caption for caption, _ in pictures)
    assert {caption for caption, _ in pictures}.isdisjoint(one.prompt for one in asked)
    for colour in COLOURS:
        assert sum(colour in caption for caption, _ in pictures) >= 2
    for one in asked:
        seen = judge(draw(one.scene, np.random.default_rng(one.seed)), TAUGHT_ALL)
        assert shows(lesson, one.scene, seen), one.prompt


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda one: one.word)
def test_the_same_pictures_every_time_in_a_zip_with_their_captions(lesson: Lesson) -> None:
    data = zipped(drawn_set(lesson))
    assert data == zipped(drawn_set(lesson))
    with zipfile.ZipFile(BytesIO(data)) as archive:
        assert archive.read("3.txt").decode() == drawn_set(lesson)[3][0]


def test_what_the_model_knows_is_not_read_as_a_new_shape() -> None:
    rng = np.random.default_rng(6)
    seen = [judge(draw(draw_lot(rng, pair=index % 3 == 2), rng), TAUGHT_ALL) for index in range(60)]
    assert all(thing.shape != "hourglass" for scene in seen for thing in scene.things)
