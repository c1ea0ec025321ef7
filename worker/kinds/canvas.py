"""The canvas of an inpainting: what lies on it, which part the model works at, and how its work gets back.

All in whole pixels, and a part is cut out and put back by one and the same box: nothing is shifted by rounding.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from PIL import Image, ImageChops, ImageFilter

from darkroom.tasks.catalogue import Limits
from darkroom.tasks.errors import Fault
from darkroom.worker.kinds.sources import fitting_size

Box = tuple[int, int, int, int]  # left, top, right, bottom
Size = tuple[int, int]

LATENT = 8  # pixels a side
_HALF = 128
_RING, _FEWEST = 16, 64  # pixels: as far from the mask colours are compared, and on how many of them at least


@dataclass(frozen=True)
class Frame:
    """Where the model works: a box of the canvas, which may reach beyond it, and the size that it is worked at."""

    box: Box
    size: Size

    @property
    def extent(self) -> Size:
        """The box's size."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    def faults(self, most_pixels: int) -> Iterator[Fault]:
        """What keeps it from being drawn: around a strip it may have thousands of times as many pixels.

        A quarter more than a picture may have is allowed: on the grid proportions are met but roughly.
        """
        (width, height), most = self.extent, most_pixels * 5 // 4
        if width * height > most:
            across, down = self.size
            reason = f"to be worked at {across}x{down} it would be drawn out to {width}x{height}, over {most} pixels"
            yield Fault("image", "too_large", f"{reason}: cut it, or give padding and a work_size of its proportions")


def whole_frame(size: Size, limits: Limits) -> Frame:
    """All of a canvas, with its edges drawn out to the grid at right and bottom.

    Where the limits do not allow that, scaled into them, in its proportions: the other side is drawn out, too.
    """
    grown = (-(-size[0] // limits.grid) * limits.grid, -(-size[1] // limits.grid) * limits.grid)
    sound = limits.min_side <= min(grown) and max(grown) <= limits.max_side
    if sound and grown[0] * grown[1] <= limits.max_pixels:
        return Frame((0, 0, *grown), grown)
    return _covering((0, 0, *size), fitting_size(*size, limits))


def frame_around(box: Box, canvas: Size, padding: int, work: Size) -> Frame:
    """A box of the canvas and `padding` pixels around it, in the proportions of the size to work at.

    It keeps within the canvas as far as that is large enough.
    """
    wide = (
        max(0, box[0] - padding),
        max(0, box[1] - padding),
        min(canvas[0], box[2] + padding),
        min(canvas[1], box[3] + padding),
    )
    frame = _covering(wide, work)
    ends = zip(wide[:2], wide[2:], frame.extent, canvas, strict=True)
    starts = [_start(first, last, length, side) for first, last, length, side in ends]
    return Frame((*starts, starts[0] + frame.extent[0], starts[1] + frame.extent[1]), work)  # type: ignore[arg-type]


def _covering(box: Box, work: Size) -> Frame:
    """The smallest box from the same corner that holds the box, and has the proportions of `work` but for a pixel."""
    width, height = box[2] - box[0], box[3] - box[1]
    wide = max(width, -(-height * work[0] // work[1]))
    high = max(height, -(-width * work[1] // work[0]))
    return Frame((box[0], box[1], box[0] + wide, box[1] + high), work)


def _start(first: int, last: int, length: int, side: int) -> int:
    """Where a stretch of this length begins that has first to last in its middle, within the side if it can be."""
    start = first - (length - (last - first)) // 2
    return max(0, min(start, side - length)) if length <= side else (side - length) // 2


@dataclass(frozen=True)
class Canvas:
    """A picture (RGB) and the feathered mask of what is made anew (L, of its size: 255 new, 0 old).

    `preserve`: its own pixels stay where the mask is 0; else the result is what the model made of it.
    """

    picture: Image.Image
    mask: Image.Image
    frame: Frame
    preserve: bool = True

    @cached_property
    def source(self) -> Image.Image:
        """What the model begins with (RGB), at its size to work at."""
        return _scaled(drawn_out(self.picture, self.frame.box), self.frame.size)

    @cached_property
    def blocks(self) -> Image.Image:
        """What the model makes anew (L, 0 or 255), at its size: each latent of which any pixel is new.

        Diffusers looks at one pixel of a latent: thin strokes would be missed, and edges moved.
        """
        part = _any(self.mask.crop(self.frame.box))
        width, height = self.frame.size
        for size in ((width // LATENT, part.height), (width // LATENT, height // LATENT)):  # one pixel of many counts
            part = _any(part.resize(size, Image.Resampling.BOX))
        return part.resize(self.frame.size, Image.Resampling.NEAREST)

    def finished(self, made: Image.Image) -> Image.Image:
        """The result, of what the model made (RGB, at its size to work at)."""
        if not self.preserve:
            return made
        left, top, right, bottom = self.frame.box
        seen = (max(left, 0), max(top, 0), min(right, self.picture.width), min(bottom, self.picture.height))
        inner = (seen[0] - left, seen[1] - top, seen[2] - left, seen[3] - top)
        part = _scaled(made, self.frame.extent).crop(inner)
        touched = self.blocks.resize(self.frame.extent, Image.Resampling.NEAREST).crop(inner)
        result = self.picture.copy()
        result.paste(levelled(part, self.picture.crop(seen), touched), seen[:2], self.mask.crop(seen))
        return result


def levelled(made: Image.Image, picture: Image.Image, touched: Image.Image) -> Image.Image:
    """What was made (RGB), brought to the colours of the picture around it: a VAE shifts them, and it would show.

    By the median difference of each channel over the pixels close to those that the model made anew (`touched`, L, 0 or
    255): there it made the same again. One shift for all of it; none where hardly any such pixels are left.
    """
    ring = ImageChops.subtract(_grown(touched, _RING), touched)
    apart = ImageChops.subtract(made, picture, scale=1.0, offset=_HALF).histogram(ring)
    shifts = [_median(apart[start : start + 256]) - _HALF for start in (0, 256, 512)]
    if ring.histogram()[255] < _FEWEST or not any(shifts):
        return made
    return made.point([min(max(level - shift, 0), 255) for shift in shifts for level in range(256)])


def _median(counts: list[int]) -> int:
    return bisect_left(list(accumulate(counts)), sum(counts) / 2)


def feathered(mask: Image.Image, pixels: int) -> Image.Image:
    """A mask (L, 0 or 255) that fades out over so many pixels around it; what it covers it covers still."""
    grow = -(-pixels // 2)
    return _grown(mask, grow).filter(ImageFilter.BoxBlur(pixels - grow)) if pixels else mask


def _grown(mask: Image.Image, by: int) -> Image.Image:
    # In one direction, then the other: of one pixel among 65 a mean leaves something, of one among 4,225 nothing.
    for radius in ((by, 0), (0, by)):
        mask = _any(mask.filter(ImageFilter.BoxBlur(radius)))
    return mask


def halved(mask: Image.Image) -> Image.Image:
    """A mask of 0 or 255: what is marked by half at least. So grey is decided, and JPEG's noise is none."""
    return mask.point([0] * _HALF + [255] * _HALF)


def _any(mask: Image.Image) -> Image.Image:
    return mask.point([0] + [255] * 255)


def drawn_out(picture: Image.Image, box: Box) -> Image.Image:
    """This box of a picture; where it reaches beyond, the nearest pixel of the edge goes on."""
    width, height = box[2] - box[0], box[3] - box[1]
    seen = (max(box[0], 0), max(box[1], 0), min(box[2], picture.width), min(box[3], picture.height))
    part = picture.crop(seen)
    left, top = seen[0] - box[0], seen[1] - box[1]
    if part.size == (width, height):
        return part
    out = Image.new(picture.mode, (width, height))
    out.paste(part, (left, top))
    right, bottom = left + part.width, top + part.height
    _smear(out, (left, top, left + 1, bottom), (0, top, left, bottom))
    _smear(out, (right - 1, top, right, bottom), (right, top, width, bottom))
    _smear(out, (0, top, width, top + 1), (0, 0, width, top))
    _smear(out, (0, bottom - 1, width, bottom), (0, bottom, width, height))
    return out


def _smear(picture: Image.Image, line: Box, over: Box) -> None:
    size = (over[2] - over[0], over[3] - over[1])
    if all(size):
        picture.paste(picture.crop(line).resize(size, Image.Resampling.NEAREST), over[:2])


def _scaled(picture: Image.Image, size: Size) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
