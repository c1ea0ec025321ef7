"""Aspect buckets, and how pictures fill them."""

from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from darkroom.worker.training.buckets import MOST_RATIO, bucket_of, buckets, frame

GRIDS = st.sampled_from([8, 16, 32, 64])
RESOLUTIONS = st.integers(64, 1536)
SIDES = st.integers(1, 8000)


def test_those_of_sdxl() -> None:
    """The sizes that sd-scripts makes for 1024 pixels, up to a ratio of 2."""
    found = buckets(1024)
    portrait = [(768, 1344), (832, 1216), (896, 1152), (960, 1088), (1024, 1024)]
    assert set(portrait) <= set(found)
    assert {(height, width) for width, height in portrait} <= set(found)
    assert found[0] == (768, 1344) and found[-1] == (1344, 768)
    assert len(found) == 9


@settings(max_examples=60, deadline=None)
@given(resolution=RESOLUTIONS, grid=GRIDS)
def test_sizes_keep_area_grid_and_ratio(resolution: int, grid: int) -> None:
    found = buckets(resolution, grid)
    side = resolution // grid * grid
    assert (side, side) in found
    assert len(set(found)) == len(found)
    assert {(height, width) for width, height in found} == set(found)
    for width, height in found:
        assert width % grid == height % grid == 0
        assert width * height <= resolution**2
        assert max(width, height) <= MOST_RATIO * min(width, height)
    ratios = [width / height for width, height in found]
    assert ratios == sorted(ratios)


@pytest.mark.parametrize(("resolution", "grid"), [(63, 64), (0, 8), (64, 0)])
def test_no_size_fits(resolution: int, grid: int) -> None:
    with pytest.raises(ValueError, match="holds no side"):
        buckets(resolution, grid)


@settings(max_examples=60, deadline=None)
@given(width=SIDES, height=SIDES)
def test_the_nearest_ratio(width: int, height: int) -> None:
    sizes = buckets(1024)
    chosen = bucket_of(width, height, sizes)

    def apart(size: tuple[int, int]) -> float:
        return abs(log(width / height) - log(size[0] / size[1]))

    assert apart(chosen) <= min(map(apart, sizes)) + 1e-9
    assert bucket_of(width, height, sizes[::-1]) == chosen
    assert bucket_of(3 * width, 3 * height, sizes) == chosen


def test_of_equal_ratios_the_largest() -> None:
    assert bucket_of(100, 100, [(64, 64), (128, 128)]) == (128, 128)
    assert bucket_of(100, 100, [(64, 128), (128, 64)]) == (64, 128)


@settings(max_examples=200, deadline=None)
@given(
    width=SIDES,
    height=SIDES,
    resolution=RESOLUTIONS,
    crop=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    flip=st.booleans(),
)
def test_a_picture_covers_its_bucket(
    width: int, height: int, resolution: int, crop: tuple[float, float], flip: bool
) -> None:
    bucket = bucket_of(width, height, buckets(resolution))
    framed = frame(width, height, bucket, crop)
    left, top, right, bottom = framed.box
    assert (right - left, bottom - top) == bucket
    assert min(left, top) >= 0 and right <= framed.scaled[0] and bottom <= framed.scaled[1]
    assert framed.scaled[0] == bucket[0] or framed.scaled[1] == bucket[1], "no more is cut off than has to be"
    down, across = framed.top_left(flip=flip)
    assert down == top and across == (framed.scaled[0] - right if flip else left)
    assert abs(framed.scaled[0] * height - framed.scaled[1] * width) <= max(width, height), "nor stretched"


def test_where_it_is_cut() -> None:
    assert frame(200, 100, (64, 64)).box == (32, 0, 96, 64)
    assert frame(200, 100, (64, 64), (0.0, 0.0)).box == (0, 0, 64, 64)
    assert frame(200, 100, (64, 64), (1.0, 0.0)).box == (64, 0, 128, 64)
    assert frame(100, 200, (64, 64), (0.0, 1.0)).box == (0, 64, 64, 128)
    assert frame(200, 100, (64, 64), (0.25, 0.0)).top_left() == (0, 16)
    assert frame(200, 100, (64, 64), (0.25, 0.0)).top_left(flip=True) == (0, 48)


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (33, 40), (64, 64), (41, 97)])
def test_what_is_seen_is_the_scaled_picture_cut(size: tuple[int, int]) -> None:
    picture = Image.radial_gradient("L").resize(size).convert("RGB")
    framed = frame(*size, (64, 64), (0.3, 0.6))
    seen = framed.of(picture)
    whole = picture.resize(framed.scaled, Image.Resampling.LANCZOS).crop(framed.box)
    assert seen.size == (64, 64)
    assert max(most for _, most in ImageChops.difference(seen, whole).getextrema()) <= 2
    assert framed.of(picture, flip=True).tobytes() == seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
