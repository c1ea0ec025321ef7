"""Zips: what they begin with, and many files as one whose bytes follow from them alone."""

import zipfile
from collections.abc import Iterable
from io import BytesIO

from darkroom.storage.errors import InputMissing, InputTooLarge, ObjectNotFound
from darkroom.storage.interface import ObjectStore

#: How a zip begins; one of no files, with the second.
BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")

#: Files of a data set, in a zip or a folder: a thousand pictures with captions, each with the file that macOS adds.
#: LoRAs are made from 10 to 100 pictures.
MOST_ENTRIES = 4_000
MOST_OBJECTS = 5_000  # under a prefix: a reader tells of too many entries together with its other faults
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def is_archive(data: bytes) -> bool:
    """Whether it begins as a zip does."""
    return data.startswith(BEGINNINGS)


def packed(files: Iterable[tuple[str, bytes]]) -> bytes:
    """A zip of files by name, not compressed: pictures are. The same files are the same bytes."""
    written = BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), data)
    return written.getvalue()


def packed_objects(prefix: str, store: ObjectStore, max_bytes: int) -> bytes:
    """All objects under a prefix, by the rest of their keys. Raises an InputError, or the StorageError of the store."""
    sizes = dict[str, int]()
    for found in store.list(prefix):
        sizes[found.key] = found.size
        if len(sizes) > MOST_OBJECTS:
            raise InputTooLarge(f"under {prefix} lie more than {MOST_OBJECTS} objects")
    if not sizes:
        raise InputMissing(f"nothing lies under {prefix}")
    if sum(sizes.values()) > max_bytes:
        raise InputTooLarge(f"what lies under {prefix} has more bytes than the limit of {max_bytes}")
    try:
        return packed((key.removeprefix(prefix), store.get(key, limit=max_bytes)) for key in sorted(sizes))
    except ObjectNotFound as error:
        raise InputMissing(error.message) from error
