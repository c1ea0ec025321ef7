"""Source pictures, brought to the size to generate in."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageOps

from darkroom.storage.errors import InputError
from darkroom.storage.images import open_picture
from darkroom.tasks.catalogue import Limits

MOST_PIXELS = 40_000_000  # width times height of a file, unless said otherwise


def read_picture(data: bytes, max_pixels: int = MOST_PIXELS) -> Image.Image:
    """The picture in a file, in RGB and its own size. Raises InputError."""
    with open_picture(data, max_pixels=max_pixels) as picture:
        return picture.copy()


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Errors of an input say which of several it is."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{field}: {error.message}", hint=error.hint) from error


def read_source(
    data: bytes, width: int | None, height: int | None, limits: Limits, max_pixels: int
) -> tuple[Image.Image, float]:
    """What `prepare_source` makes of the picture in a file, and the share of it that was cut off. Raises InputError."""
    with open_picture(data, max_pixels=max_pixels) as picture:
        source = prepare_source(picture, width, height, limits)
        return source, _cut_away(picture.size, source.size)


def prepare_source(image: Image.Image, width: int | None, height: int | None, limits: Limits) -> Image.Image:
    """The picture (RGB) at the size to generate in; one that already fits is only copied.

    With width and height (pixels) it is scaled to cover them and cut about its centre; without, it keeps its size,
    scaled with its proportions into the limits, each side then rounded down to the grid.
    """
    size = (width, height) if width and height else fitting_size(*image.size, limits)
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def _cut_away(picture: tuple[int, int], source: tuple[int, int]) -> float:
    """The share of a picture of this size that is not in its source of that size."""
    (width, height), (wide, high) = picture, source
    scale = max(wide / width, high / height)
    return 1 - wide * high / (width * height * scale**2)


def fitting_size(width: int, height: int, limits: Limits) -> tuple[int, int]:
    """The size nearest to a picture's that the limits allow; extreme proportions give way to them.

    A size that was found so fits.
    """
    largest = min(limits.max_side / max(width, height), math.sqrt(limits.max_pixels / (width * height)))
    scale = min(max(1.0, limits.min_side / min(width, height)), largest)
    floor = -(-limits.min_side // limits.grid) * limits.grid
    # Where one side was raised to the floor, the other has to give way.
    most = max(floor, limits.max_pixels // floor // limits.grid * limits.grid)
    sides = [min(max(floor, int(side * scale + 1e-6) // limits.grid * limits.grid), most) for side in (width, height)]
    return sides[0], sides[1]
