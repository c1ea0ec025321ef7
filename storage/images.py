"""Opens an image that somebody else made: checked before it is unpacked, then unpacked to its end."""

from io import BytesIO

from PIL import Image, UnidentifiedImageError

from darkroom.storage.errors import InputBomb, InputCorrupt, InputNotAnImage

#: By content. Pillow's other readers are larger targets, and some start programs (EPS: Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP")

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


def open_image(data: bytes, *, max_pixels: int = 40_000_000) -> Image.Image:
    """The picture in `data`, unpacked; of an animation the first frame. EXIF orientation and alpha stay as they are.

    Raises InputNotAnImage, InputBomb above `max_pixels` (width times height) before unpacking, InputCorrupt.
    """
    if _format(data) is None:
        msg = f"the input is {_guess(data)}; accepted are PNG, JPEG and WebP, by content"
        raise InputNotAnImage(msg)
    image = _read_header(data)
    if image.width * image.height > max_pixels:
        msg = f"the input has {image.width}x{image.height} pixels, over the limit of {max_pixels}"
        raise InputBomb(msg)
    # Within compressed data 0xFF is always followed by 0x00, so these are the real markers.
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        msg = f"the input is a JPEG of over {_MAX_JPEG_SCANS} scans"
        raise InputBomb(msg)
    _unpack(image)
    return image


def _read_header(data: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputBomb(f"the input is too large: {error}") from error
    except UnidentifiedImageError as error:
        msg = f"the input begins as {_format(data)}, but its header cannot be read"
        raise InputCorrupt(msg) from error
    except MemoryError:
        raise
    except Exception as error:
        raise InputCorrupt(f"the input's header cannot be read: {error}") from error


def _unpack(image: Image.Image) -> None:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        raise InputCorrupt(f"the input cannot be decoded: {error}") from error


def _format(data: bytes) -> str | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def _guess(data: bytes) -> str:
    head = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    for begins, name in _OTHERS:
        if any(head.startswith(begin) or head.lower().startswith(begin) for begin in begins):
            return name
    return "something else" if data else "empty"
