"""Aspect buckets: sizes of about one area, so that pictures are trained on in nearly their own proportions.

As sd-scripts has them (`make_bucket_resolutions` in `library/model_util.py`): a picture goes into the bucket with the
nearest ratio, is scaled to cover it, and what sticks out is cut off. Rows of a batch are of one bucket.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from PIL import Image, ImageOps

MOST_RATIO = 2  # of a bucket's longer side to its shorter one

Size = tuple[int, int]  # width and height, pixels
CENTRE = (0.5, 0.5)


def buckets(resolution: int, grid: int = 64) -> tuple[Size, ...]:
    """The sizes to train in, from narrow to wide: sides are multiples of `grid`, areas at most `resolution` squared.

    All in pixels. Raises ValueError where not even the square fits.
    """
    if grid < 1 or resolution < grid:
        raise ValueError(f"a resolution of {resolution} pixels holds no side of {grid}")
    found = set[Size]()
    for shorter in range(grid, resolution + 1, grid):
        longer = resolution**2 // shorter // grid * grid
        if shorter <= longer <= MOST_RATIO * shorter:
            found |= {(shorter, longer), (longer, shorter)}
    side = resolution // grid * grid
    return tuple(sorted(found | {(side, side)}, key=lambda size: (Fraction(*size), size)))


def bucket_of(width: int, height: int, sizes: Sequence[Size]) -> Size:
    """The size for a picture: of the nearest ratio by its logarithm; of several the largest, then the narrowest.

    In whole numbers, so that all machines agree.
    """

    def apart(size: Size) -> tuple[Fraction, int, Size]:
        quotient = Fraction(width * size[1], height * size[0])
        return max(quotient, 1 / quotient), -size[0] * size[1], size

    return min(sizes, key=apart)


@dataclass(frozen=True)
class Frame:
    """How a picture fills its bucket: scaled to `scaled`, then cut to `box` (left, top, right, bottom), in pixels."""

    scaled: Size
    box: tuple[int, int, int, int]

    def of(self, picture: Image.Image, *, flip: bool = False) -> Image.Image:
        """What is seen of the picture, in the size of the bucket; flipped left to right after it was cut."""
        left, top, right, bottom = self.box
        across, down = picture.width / self.scaled[0], picture.height / self.scaled[1]
        source = (left * across, top * down, min(right * across, picture.width), min(bottom * down, picture.height))
        seen = picture.resize((right - left, bottom - top), Image.Resampling.LANCZOS, box=source)
        return ImageOps.mirror(seen) if flip else seen

    def top_left(self, *, flip: bool = False) -> tuple[int, int]:
        """How much was cut off at the top and at the left of what is seen (SDXL's `crops_coords_top_left`), pixels."""
        left, top, right, _ = self.box
        return top, self.scaled[0] - right if flip else left


def frame(width: int, height: int, bucket: Size, crop: tuple[float, float] = CENTRE) -> Frame:
    """Covers the bucket with a picture of this size. `crop`: where, from 0 (left, top) to 1 (right, bottom)."""
    wide, high = bucket
    if wide * height >= high * width:
        scaled = (wide, max(high, _rounded(height * wide, width)))
    else:
        scaled = (max(wide, _rounded(width * high, height)), high)
    left, top = (round(part * (whole - seen)) for part, whole, seen in zip(crop, scaled, bucket, strict=True))
    return Frame(scaled, (left, top, left + wide, top + high))


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
