"""The canvas: masks that fade, boxes that fit, and pixels that come back to where they were."""

import random

import numpy as np
import pytest
from PIL import Image

from darkroom.tasks.catalogue import Limits
from darkroom.worker.kinds.canvas import LATENT, Box, Canvas, Frame, drawn_out, feathered, frame_around, whole_frame
from tests.unit.worker.conftest import photo, same

LIMITS = Limits(grid=8, min_side=32, max_side=128, max_pixels=128 * 96)


def mask(size: tuple[int, int], *boxes: Box) -> Image.Image:
    made = Image.new("L", size)
    for box in boxes:
        made.paste(255, box)
    return made


def of(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# the mask


@pytest.mark.parametrize("pixels", [0, 1, 2, 7, 8, 64])
def test_it_covers_what_it_covered_and_fades_over_so_many_pixels(pixels: int) -> None:
    found = of(feathered(mask((301, 201), (150, 100, 151, 101)), pixels))
    assert found[100, 150] == 255
    left, right = found[100, : 150 - pixels], found[100, 151 + pixels :]
    assert not left.any() and not right.any() and not found[: 100 - pixels].any() and not found[101 + pixels :].any()
    slope = found[100, 150:]
    assert (np.diff(slope) <= 0).all()
    if pixels > 1:
        assert np.diff(slope).min() >= -255 / (pixels // 2)  # no step of its own


def test_at_the_edge_of_the_picture_it_does_not_fade() -> None:
    assert (of(feathered(mask((64, 64), (0, 0, 8, 64)), 16))[:, :8] == 255).all()


def test_every_latent_of_which_a_pixel_is_new_is_made_anew() -> None:
    """Diffusers samples one pixel of each 8 x 8: it would see none of these."""
    draw = random.Random(1)
    spots = [(draw.randrange(64), draw.randrange(48)) for _ in range(12)]
    thin = mask((64, 48), *((x, y, x + 1, y + 1) for x, y in spots))
    canvas = Canvas(photo(1, 64, 48), thin, Frame((0, 0, 64, 48), (64, 48)))
    cells = of(canvas.blocks)[::LATENT, ::LATENT]
    assert {(x, y) for y, x in zip(*np.nonzero(cells), strict=True)} == {(x // 8, y // 8) for x, y in spots}
    assert set(canvas.blocks.tobytes()) == {0, 255}


def test_one_pixel_of_a_picture_that_is_scaled_down_counts_too() -> None:
    canvas = Canvas(photo(1, 640, 640), mask((640, 640), (333, 77, 334, 78)), Frame((0, 0, 640, 640), (64, 64)))
    assert np.count_nonzero(of(canvas.blocks)) == LATENT * LATENT


# boxes


@pytest.mark.parametrize(
    ("size", "box", "work"),
    [
        ((64, 96), (0, 0, 64, 96), (64, 96)),
        ((77, 50), (0, 0, 80, 56), (80, 56)),  # drawn out, not scaled
        ((128, 96), (0, 0, 128, 96), (128, 96)),
        ((256, 192), (0, 0, 256, 192), (128, 96)),
        ((256, 100), (0, 0, 256, 100), (128, 48)),
        ((9, 7), None, None),
        ((1000, 3), None, None),
        ((1, 1), None, None),
    ],
)
def test_the_whole_is_within_the_limits(size: tuple[int, int], box: Box | None, work: tuple[int, int] | None) -> None:
    frame = whole_frame(size, LIMITS)
    covers(frame, (0, 0, *size))
    assert all(side % 8 == 0 and 32 <= side <= 128 for side in frame.size)
    assert frame.size[0] * frame.size[1] <= LIMITS.max_pixels
    if work:
        assert frame.size == work
    if box and frame.size == size:
        assert frame.box == box


def covers(frame: Frame, box: Box) -> None:
    """It holds the box, in the proportions of its size to work at but for a pixel."""
    assert frame.box[0] <= box[0] and frame.box[1] <= box[1] and frame.box[2] >= box[2] and frame.box[3] >= box[3]
    (wide, high), (width, height) = frame.extent, frame.size
    assert abs(wide - high * width / height) < max(1, width / height) + 1e-6


def test_a_part_is_within_the_canvas_wherever_that_is_large_enough() -> None:
    draw = random.Random(3)
    for _ in range(500):
        size = draw.randint(20, 400), draw.randint(20, 400)
        x, y = draw.randrange(size[0]), draw.randrange(size[1])
        box = (x, y, draw.randint(x + 1, size[0]), draw.randint(y + 1, size[1]))
        padding, work = draw.choice((0, 5, 100)), draw.choice(((64, 64), (96, 64), (64, 104)))
        frame = frame_around(box, size, padding, work)
        covers(frame, box)
        for low, high, length, side in zip(frame.box[:2], frame.box[2:], frame.extent, size, strict=True):
            assert (low >= 0 and high <= side) if length <= side else (low <= 0 and high >= side)


@pytest.mark.parametrize("size", [(6324, 6324), (9000, 4444), (12_000, 3300), (300, 100)])
def test_pictures_may_be_drawn_out_to_the_grid(size: tuple[int, int]) -> None:
    """Those of 40 million pixels then have some more."""
    for frame in (whole_frame(size, LIMITS), frame_around((0, 0, *size), size, 0, size)):
        assert not [*frame.faults(most_pixels=size[0] * size[1])]


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000)])
def test_strips_may_not_be_drawn_out_to_any_size(size: tuple[int, int]) -> None:
    for frame in (whole_frame(size, LIMITS), frame_around((0, 0, *size), size, 0, (64, 64))):
        assert [fault.code for fault in frame.faults(most_pixels=1_000_000)] == ["too_large"]


def test_padding_is_around_the_mask() -> None:
    assert frame_around((50, 60, 70, 80), (200, 200), 12, (64, 64)).box == (38, 48, 82, 92)
    assert frame_around((0, 60, 20, 80), (200, 200), 12, (64, 64)).box == (0, 48, 44, 92)


# there and back


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, 1), (7, 3)])
def test_a_part_comes_back_to_the_pixel(shift: tuple[int, int]) -> None:
    """At its own size the model's work is put where it was taken from: one pixel off would show."""
    picture = Image.effect_noise((201, 155), 90).convert("RGB")
    box = (90 + shift[0], 60 + shift[1], 122 + shift[0], 92 + shift[1])
    whole = mask(picture.size, box)
    frame = frame_around(box, picture.size, 16, (64, 64))
    assert frame.extent == frame.size == (64, 64)
    canvas = Canvas(picture, whole, frame)
    assert same(canvas.finished(canvas.source), picture)
    moved = Image.new("RGB", (64, 64))
    moved.paste(canvas.source, (1, 0))
    assert not same(canvas.finished(moved), picture)


@pytest.mark.parametrize("work", [(64, 64), (128, 128), (96, 64)])
def test_a_part_that_is_scaled_comes_back_without_a_shift(work: tuple[int, int]) -> None:
    """A ramp is where it was to a hundredth of its step a pixel, at any scale and place of the box."""
    ramp = Image.linear_gradient("L").resize((256, 256)).convert("RGB")
    picture = Image.merge("RGB", (ramp.getchannel(0), ramp.rotate(90).getchannel(0), ramp.getchannel(2)))
    for left in (31, 64, 77):
        box = (left, left + 5, left + 61, left + 52)
        canvas = Canvas(picture, mask(picture.size, box), frame_around(box, picture.size, 9, work))
        back, was = (of(image.crop(box)) for image in (canvas.finished(canvas.source), picture))
        inner = (slice(6, -6), slice(6, -6))
        assert abs((back - was)[inner].mean(axis=(0, 1))).max() < 0.15  # a pixel off is a level off
        assert abs((back - was)[inner]).max() <= 1


def test_outside_of_the_mask_every_bit_is_the_pictures() -> None:
    draw = random.Random(9)
    for size in ((61, 47), (97, 33), (33, 200), (301, 263)):
        picture = Image.effect_noise(size, 90).convert("RGB")
        x, y = draw.randrange(size[0] - 8), draw.randrange(size[1] - 8)
        covered = feathered(mask(size, (x, y, x + 8, y + 8)), 5)
        for frame in (whole_frame(size, LIMITS), frame_around((x, y, x + 8, y + 8), size, 7, (64, 64))):
            canvas = Canvas(picture, covered, frame)
            made = canvas.source.copy()
            made.paste((1, 2, 3), (0, 0), canvas.blocks)
            result = canvas.finished(made)
            assert result.size == size
            kept, new = of(covered) == 0, of(covered) == 255
            assert (of(result)[kept] == of(picture)[kept]).all()
            assert abs(of(result)[new] - (1, 2, 3)).max() <= (0 if frame.extent == frame.size else 40)


def test_a_shift_of_colours_leaves_no_seam() -> None:
    """What a VAE does to all of a picture would show at the edge of what is put in."""
    picture, shift = photo(4, 128, 96), (3, -2, 10)
    box = (40, 30, 90, 70)
    for pixels in (0, 8):
        canvas = Canvas(picture, feathered(mask(picture.size, box), pixels), whole_frame(picture.size, LIMITS))
        shifted = Image.fromarray((of(canvas.source) + shift).clip(0, 255).astype(np.uint8))
        shifted.paste(Image.effect_noise((20, 20), 90).convert("RGB"), (50, 40))  # something new is in there
        apart = abs(of(canvas.finished(shifted)) - of(picture))
        apart[40:60, 50:70] = 0
        assert apart.max() <= 1


def test_where_all_is_new_there_is_nothing_to_be_like() -> None:
    made = photo(2, 64, 64)
    canvas = Canvas(photo(1, 64, 64), Image.new("L", (64, 64), 255), whole_frame((64, 64), LIMITS))
    assert same(canvas.finished(made), made)


def test_what_is_not_preserved_is_what_the_model_made() -> None:
    made = Image.new("RGB", (64, 48), "red")
    canvas = Canvas(photo(1, 61, 47), mask((61, 47), (0, 0, 9, 9)), whole_frame((61, 47), LIMITS), preserve=False)
    assert canvas.finished(made) is made


def test_beyond_its_edges_a_picture_goes_on_with_the_nearest_pixel() -> None:
    picture = Image.effect_noise((5, 4), 90).convert("RGB")
    found = of(drawn_out(picture, (-3, -2, 7, 9)))
    wanted = np.pad(of(picture), ((2, 5), (3, 2), (0, 0)), mode="edge")
    assert (found == wanted).all()
    assert same(drawn_out(picture, (1, 1, 3, 4)), picture.crop((1, 1, 3, 4)))
    assert (
        of(drawn_out(picture, (2, -1, 4, 3))) == np.pad(of(picture), ((1, 0), (0, 0), (0, 0)), "edge")[:4, 2:4]
    ).all()
