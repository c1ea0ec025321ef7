"""Data sets among a tenant's inputs: a zip, or the objects under a prefix as one."""

import zipfile
from io import BytesIO

from darkroom.storage.errors import (
    InputForbidden,
    InputMissing,
    InputReferenceInvalid,
    InputTooLarge,
    KeyInvalid,
    ObjectNotFound,
    ObjectTooLarge,
)
from darkroom.storage.interface import ObjectStore
from darkroom.storage.keys import check_key, check_prefix, input_prefix

#: How a zip begins; one of no files, with the second.
BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")

MOST_OBJECTS = 5_000  # under a prefix; a reader of data sets takes fewer
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # the same objects are the same bytes


def is_archive(data: bytes) -> bool:
    """Whether it begins as a zip does."""
    return data.startswith(BEGINNINGS)


def read_archive(reference: str, *, tenant: str, store: ObjectStore, max_bytes: int) -> bytes:
    """The bytes of a zip: what lies under the key, or the objects under a prefix (`inputs/{tenant}/dots/`), not packed.

    Raises an InputError, or the StorageError of the store.
    """
    try:
        (check_prefix if reference.endswith("/") else check_key)(reference)
    except KeyInvalid as error:
        raise InputReferenceInvalid(error.message) from error
    if not reference.startswith(input_prefix(tenant)):
        raise InputForbidden(f"{reference} is not among the inputs of tenant {tenant}")
    if reference.endswith("/"):
        return _packed(reference, store, max_bytes)
    try:
        return store.get(reference, limit=max_bytes)
    except ObjectNotFound as error:
        raise InputMissing(error.message) from error
    except ObjectTooLarge as error:
        raise InputTooLarge(error.message) from error


def _packed(prefix: str, store: ObjectStore, max_bytes: int) -> bytes:
    sizes = dict[str, int]()
    for found in store.list(prefix):
        sizes[found.key] = found.size
        if len(sizes) > MOST_OBJECTS:
            raise InputTooLarge(f"under {prefix} lie more than {MOST_OBJECTS} objects")
    if not sizes:
        raise InputMissing(f"nothing lies under {prefix}")
    if sum(sizes.values()) > max_bytes:
        raise InputTooLarge(f"what lies under {prefix} has more bytes than the limit of {max_bytes}")
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for key in sorted(sizes):
            try:
                archive.writestr(zipfile.ZipInfo(key.removeprefix(prefix), _NO_TIME), store.get(key, limit=max_bytes))
            except ObjectNotFound as error:
                raise InputMissing(error.message) from error
    return packed.getvalue()
