"""A sheet shows every picture whole, whatever their sizes and however many there are."""

import numpy as np
import pytest
from PIL import Image

from ops.starter.layout import lay_out
from ops.starter.rows import Row, Shot

SIZES = [(128, 128)] * 7 + [(256, 128), (256, 256), (688, 40)]
COLOURS = [(20 * index, 200, 0) for index in range(len(SIZES))]


@pytest.mark.parametrize("words", ["short", "words of a caption that takes more lines than one " * 3])
def test_no_picture_is_cut_or_covered(words: str) -> None:
    shots = [Shot(Image.new("RGB", size, colour), words) for size, colour in zip(SIZES, COLOURS, strict=True)]
    row = Row("some", [{"prompt": "a red star"}])
    sheet = np.asarray(lay_out([(row, shots), (row, shots[:1])]))
    areas = [int((sheet == colour).all(-1).sum()) for colour in COLOURS]
    assert areas == [2 * 128 * 128, *(width * height for width, height in SIZES[1:])]


def test_a_heading_says_what_all_requests_share_and_nothing_else() -> None:
    row = Row("sizes", [{"prompt": "a red star", "seed": 3, "width": side, "height": side} for side in (64, 128)])
    assert row.heading.replace("\N{NO-BREAK SPACE}", " ") == "a red star, seed 3"
