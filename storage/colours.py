"""A decoded picture to upright, opaque sRGB or to a mask, in bands: what lies between costs no second copy of all."""

from collections.abc import Callable, Iterator
from functools import reduce
from io import BytesIO
from typing import Literal

from PIL import Image, ImageChops
from PIL.ImageCms import ImageCmsTransform

from darkroom.storage.parts import Parts
from darkroom.storage.profiles import to_srgb

MaskChannel = Literal["auto", "luminance", "alpha"]
Box = tuple[int, int, int, int]  # left, top, right, bottom

_BAND = 1_000_000  # pixels
_HALF = 128

#: What brings a picture of each EXIF orientation upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: The mode of the colours alone.
_COLOURS = {"1": "L", "I;16": "L", "LA": "L", "P": "RGB", "RGBA": "RGB"}


def to_rgb(image: Image.Image, parts: Parts, tick: Callable[[], None]) -> Image.Image:
    """The picture (opened, not loaded) in mode RGB: turned as EXIF says, laid over white, its ICC profile applied.

    Of 16 bits a sample the upper eight are kept. `tick` is called every million pixels. Closes `image` or returns it.
    """
    key = _key(image.mode, parts)
    low = _low_bytes(parts.bare) if key and image.mode == "RGB" and parts.depth == 16 else None
    image.load()
    transform = to_srgb(parts.profile, _COLOURS.get(image.mode, image.mode))
    if image.mode != "RGB" or transform or key:
        image = _banded(image, low, key, transform, tick)
    return _upright(image, parts)


def to_mask(image: Image.Image, parts: Parts, channel: MaskChannel, tick: Callable[[], None]) -> Image.Image:
    """The picture (opened, not loaded) as a mask, mode L: 255 is what it marks; turned as EXIF says.

    By luminance white is marked and what is transparent is as black; by alpha what is transparent is marked. `auto`:
    alpha where that marks anything by half at least. A profile has no say: a mask is no picture of anything.
    """
    key = _key(image.mode, parts)
    low = _low_bytes(parts.bare) if key and image.mode == "RGB" and parts.depth == 16 else None
    image.load()
    light, clear = Image.new("L", image.size), Image.new("L", image.size)
    for box, colour, alpha in _bands(image, low, key, tick):
        level = colour.convert("RGB").convert("L")
        light.paste(ImageChops.multiply(level, alpha) if alpha else level, box)
        if alpha:
            clear.paste(ImageChops.invert(alpha), box)
    image.close()
    by_alpha = channel == "alpha" or (channel == "auto" and any(clear.histogram()[_HALF:]))
    return _upright(clear if by_alpha else light, parts)


def _banded(
    image: Image.Image,
    low: Image.Image | None,
    key: bytes | None,
    transform: ImageCmsTransform | None,
    tick: Callable[[], None],
) -> Image.Image:
    out = Image.new("RGB", image.size)
    for box, colour, alpha in _bands(image, low, key, tick):
        out.paste(_over_white(transform.apply(colour) if transform else colour.convert("RGB"), alpha), box)
    image.close()
    return out


def _bands(
    image: Image.Image, low: Image.Image | None, key: bytes | None, tick: Callable[[], None]
) -> Iterator[tuple[Box, Image.Image, Image.Image | None]]:
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        tick()
        box = (0, top, image.width, min(top + rows, image.height))
        yield box, *_split(image.crop(box), low and low.crop(box), key)


def _upright(image: Image.Image, parts: Parts) -> Image.Image:
    turn = _TURNS.get(parts.orientation)
    return image if turn is None else _turned(image, turn)


def _turned(image: Image.Image, turn: Image.Transpose) -> Image.Image:
    turned = image.transpose(turn)
    image.close()
    return turned


def _split(band: Image.Image, low: Image.Image | None, key: bytes | None) -> tuple[Image.Image, Image.Image | None]:
    """Colours (mode L, RGB or CMYK), and alpha where there is any."""
    if band.mode == "P" and key:
        band.info["transparency"] = key
        band = band.convert("RGBA")
    if band.mode in ("LA", "RGBA"):
        return band.convert(_COLOURS[band.mode]), band.getchannel("A")
    if band.mode == "I;16":  # its bytes are little endian: read as big endian, the upper eight bits are the lower
        raw, size = band.tobytes(), band.size
        band, low = (Image.frombytes("L", size, raw, "raw", order) for order in ("L;16", "L;16B"))
    band = band.convert(_COLOURS.get(band.mode, band.mode))
    return band, _alpha([*band.split(), *(low.split() if low else [])], key) if key else None


def _alpha(samples: list[Image.Image], key: bytes) -> Image.Image:
    """0 where every sample has the key's value, else 255."""
    wanted = zip(samples, key, strict=True)
    equal = [sample.point([255 * (value == one) for value in range(256)]) for sample, one in wanted]
    return ImageChops.invert(reduce(ImageChops.darker, equal))


def _over_white(rgb: Image.Image, alpha: Image.Image | None) -> Image.Image:
    if alpha is None:
        return rgb
    rgb.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")


def _key(mode: str, parts: Parts) -> bytes | None:
    """PNG's tRNS: a palette's alphas, or the samples of the colour that is transparent; None where it is too short.

    Samples of 16 bits are taken apart: first all upper halves, then all lower ones.
    """
    if mode == "P":
        return (parts.transparency or b"")[:256] or None
    channels = {"1": 1, "L": 1, "I;16": 1, "RGB": 3}.get(mode, 0)
    raw = (parts.transparency or b"")[: 2 * channels]
    if not channels or len(raw) < 2 * channels:
        return None
    if parts.depth == 16:
        return raw[::2] + raw[1::2]
    most = 2**parts.depth - 1  # samples of few bits were stretched to 255
    return bytes((value & most) * 255 // most for value in raw[1::2])


def _low_bytes(bare: bytes) -> Image.Image:
    """The lower eight bits of a PNG with 16 bits a sample: Pillow keeps the upper ones, and says nothing of it."""
    image = Image.open(BytesIO(bare), formats=["PNG"])
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
    image.load()
    return image
