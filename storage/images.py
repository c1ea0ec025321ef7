"""Opens a picture that somebody else made: from bytes to RGB or a mask, for an upload's check and for the worker."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from PIL import Image, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError, WebPImagePlugin

from darkroom.storage.colours import MaskChannel, to_mask, to_rgb
from darkroom.storage.errors import InputBomb, InputCorrupt, InputError, InputNotAnImage
from darkroom.storage.gate import Budget, BudgetedFile, PixelGate
from darkroom.storage.parts import Parts, PictureFormat, take_apart

#: Pixels unpacked at a time in the whole process; each takes 4 to 20 bytes.
GATE = PixelGate(40_000_000)

#: Of CPU time for one picture. The slowest honest ones, 40 megapixels with a profile, take 3 to 5.
_SECONDS = 30.0

_READERS: dict[PictureFormat, Callable[[BudgetedFile, str], Image.Image]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.jpeg_factory,
    "WEBP": WebPImagePlugin.WebPImageFile,
}

#: Begins of other things, for a message that helps.
_OTHERS = (
    ((b"GIF87a", b"GIF89a"), "a GIF"),
    ((b"%!PS", b"\xc5\xd0\xd3\xc6"), "a PostScript file"),
    ((b"%PDF",), "a PDF"),
    ((b"BM",), "a BMP"),
    ((b"II*\0", b"MM\0*"), "a TIFF"),
    ((b"<svg",), "an SVG"),
    ((b"<!doctype html", b"<html"), "an HTML page"),
    ((b"<",), "an XML or HTML document"),
    ((b"{", b"["), "JSON"),
)

#: Every scan of a progressive JPEG is a pass over all pixels: at 36 MP, 60 bytes of file cost 13 ms. Encoders make 10.
_MAX_JPEG_SCANS = 100


@contextmanager
def open_picture(data: bytes, *, max_pixels: int = 40_000_000) -> Iterator[Image.Image]:
    """The picture in `data`, in mode RGB: upright, over white, in sRGB, of an animation the first frame.

    It is closed with the context. In all contexts of the process pictures have at most 40 megapixels: leave it soon,
    and open no other picture within. Broken metadata is ignored. Raises InputNotAnImage, InputBomb above `max_pixels`
    (width times height) before unpacking, or where it would take too long, and InputCorrupt.
    """
    with _opened(data, max_pixels, to_rgb) as picture:
        yield picture


@contextmanager
def open_mask(data: bytes, channel: MaskChannel, *, max_pixels: int = 40_000_000) -> Iterator[Image.Image]:
    """The picture in `data` as a mask, in mode L: 255 is what it marks; upright, of an animation the first frame.

    Which of its channels count, `storage.colours.to_mask` says. All else as `open_picture`.
    """
    with _opened(data, max_pixels, partial(_to_mask, channel)) as mask:
        yield mask


def _to_mask(channel: MaskChannel, image: Image.Image, parts: Parts, tick: Callable[[], None]) -> Image.Image:
    return to_mask(image, parts, channel, tick)


@contextmanager
def _opened(
    data: bytes, max_pixels: int, convert: Callable[[Image.Image, Parts, Callable[[], None]], Image.Image]
) -> Iterator[Image.Image]:
    form, budget = picture_format(data), Budget(_SECONDS)
    with _failures_become_ours("the input's header cannot be read", max_pixels):
        parts = take_apart(data, form)
        image = _header_read(BudgetedFile(parts.bare, budget), form)
    _check_size(image, parts.bare, max_pixels)
    with GATE.room(image.width * image.height):
        try:
            with _failures_become_ours("the input cannot be decoded", max_pixels):
                image = convert(image, parts, budget.check)
            yield image
        finally:
            image.close()


def _header_read(file: BudgetedFile, form: PictureFormat) -> Image.Image:
    """By content: Pillow's other readers are larger targets, and some start programs (EPS: Ghostscript).

    Past `Image.open`, which warns of sizes: to refuse them is the next thing that is done.
    """
    try:
        return _READERS[form](file, "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:  # as Pillow's readers say that it is none
        raise UnidentifiedImageError from error


def picture_format(data: bytes) -> PictureFormat:
    """By content. Raises InputNotAnImage."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    msg = f"the input is {_guess(data)}; accepted are PNG, JPEG and WebP, by content"
    raise InputNotAnImage(msg)


@contextmanager
def _failures_become_ours(what: str, max_pixels: int) -> Iterator[None]:
    try:
        yield
    except (InputError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputBomb(f"the input has far more pixels than the limit of {max_pixels}") from error
    except UnidentifiedImageError as error:
        raise InputCorrupt(what) from error
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        raise InputCorrupt(f"{what}: {error}") from error


def _check_size(image: Image.Image, bare: bytes, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        msg = f"the input has {image.width}x{image.height} pixels, over the limit of {max_pixels}"
        raise InputBomb(msg)
    # Within compressed data 0xFF is always followed by 0x00, so these are the real markers.
    if image.format == "JPEG" and bare.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        msg = f"the input is a JPEG of over {_MAX_JPEG_SCANS} scans"
        raise InputBomb(msg)


def _guess(data: bytes) -> str:
    head = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    for begins, name in _OTHERS:
        if any(head.startswith(begin) or head.lower().startswith(begin) for begin in begins):
            return name
    return "something else" if data else "empty"
