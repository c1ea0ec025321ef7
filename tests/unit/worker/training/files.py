"""Files of data sets, made by hand: what is in them may be wrong in every way."""

import struct
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from PIL import Image

from darkroom.worker.training.dataset import Dataset, read_zip


def picture(number: int = 0, size: tuple[int, int] = (40, 40), form: str = "PNG", **options: Any) -> bytes:
    """Another one for each number."""
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    image.paste((number * 37 % 256, number * 91 % 256, 90), (0, 0, 16, 16))
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def good(number: int = 3) -> dict[str, bytes]:
    """Pictures with captions: 0.png, 0.txt, ..."""
    files = {}
    for index in range(number):
        files |= {f"{index}.png": picture(index), f"{index}.txt": f"picture {index}".encode()}
    return files


def zipped(files: Mapping[str, bytes] | list[tuple[str | zipfile.ZipInfo, bytes]], **options: Any) -> BytesIO:
    """A zip of these; by entries where a mapping cannot say it."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", **{"compression": zipfile.ZIP_DEFLATED, **options}) as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            archive.writestr(name, data)
    return file


def read(file: BytesIO, **fields: Any) -> Dataset:
    """To be trained on at 64 pixels."""
    return read_zip(file, **{**WANTED, **fields})


WANTED: dict[str, Any] = {
    "caption": None,
    "trigger": None,
    "resolution": 64,
    "tokens": lambda text: len(text.split()),
    "most_tokens": 75,
}


def patched(file: BytesIO, name: str, place: int, form: str, value: int) -> BytesIO:
    """The zip with one field changed in the entry of this name, in the directory at its end."""
    data = bytearray(file.getvalue())
    start = data.rindex(name.encode()) - 46
    assert data[start : start + 4] == b"PK\x01\x02"
    struct.pack_into(form, data, start + place, value)
    return BytesIO(bytes(data))


FLAGS, METHOD, UNPACKED, OFFSET = 8, 10, 24, 42  # of an entry's fields
