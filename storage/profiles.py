"""ICC profiles: from a picture's own colours to sRGB, which is what models know."""

import struct
from functools import cache
from io import BytesIO

from PIL import Image, ImageChops, ImageCms

#: A profile's colour space, and Pillow's mode of pictures in it.
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of pictures of `mode` (RGB, L or CMYK) to sRGB, in perceptual intent.

    None where there is nothing to do: no profile, a broken one, one of another colour space, or sRGB by any name.
    """
    if not profile or _is_slow(profile):
        return None
    try:
        own = ImageCms.ImageCmsProfile(BytesIO(profile))
        if _SPACES.get(own.profile.xcolor_space.strip()) != mode:
            return None
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(own, srgb, mode, "RGB")
        return None if mode == "RGB" and _changes_nothing(transform) else transform
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a broken profile is ignored, whatever the library makes of it
        return None


def _is_slow(profile: bytes) -> bool:
    """Whether it has a pipeline of any number of steps (ICC.1:2022, 10.16): 100,000 of them take hours to prepare.

    Only profiles for more than 8 bits have one. All other forms have at most five steps.
    """
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        places = [struct.unpack_from(">I", profile, 136 + 12 * i)[0] for i in range(count)]
    except struct.error:
        return True  # cut short
    return any(profile[at : at + 4] == b"mpet" for at in places)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    apart = ImageChops.difference(_samples(), transform.apply(_samples())).getextrema()
    return all(most <= 1 for _, most in apart)  # type: ignore[misc]


@cache
def _samples() -> Image.Image:
    """Every 15th step of each channel with every other's."""
    steps = range(0, 256, 15)
    colours = bytes(value for red in steps for green in steps for blue in steps for value in (red, green, blue))
    return Image.frombytes("RGB", (len(steps), len(steps) ** 2), colours)
