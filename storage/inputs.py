"""Reads the picture or the latents that a request refers to, and stores what a client uploads."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from darkroom.storage.archives import is_archive, packed_objects
from darkroom.storage.embeddings import DIMENSIONS, open_embeddings
from darkroom.storage.errors import (
    InputForbidden,
    InputMissing,
    InputNotAnImage,
    InputReferenceInvalid,
    InputTooLarge,
    KeyInvalid,
    ObjectNotFound,
    ObjectTooLarge,
)
from darkroom.storage.images import open_picture, picture_format
from darkroom.storage.interface import ObjectStore
from darkroom.storage.keys import (
    ARCHIVE,
    EXTENSIONS,
    FILE_TYPES,
    LATENTS,
    check_key,
    check_prefix,
    input_key,
    input_prefix,
    is_picture,
    is_tensors,
    job_of_output,
)
from darkroom.storage.latents import open_latents
from darkroom.storage.settings import StorageSettings
from darkroom.storage.stores import load_settings
from darkroom.storage.tensors import is_safetensors, read_header

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def read_input(
    reference: str,
    *,
    tenant: str,
    store: ObjectStore,
    settings: StorageSettings,
    owns_output: Callable[[str], bool],
    fetch: Callable[[str], bytes] | None = None,
    latents: bool = False,
) -> bytes:
    """The bytes that `reference` stands for: a storage key, a base64 data: URL, or an https: URL. Not decoded yet.

    `latents`: a key may be that of a .safetensors file, too, of latents or embeddings. A key must lie under
    `inputs/{tenant}/`, or be the output of a job for whose id `owns_output` says True. Raises an InputError, or the
    StorageError of the store. `fetch` stands in for the real fetching.
    """
    scheme = _SCHEME.match(reference)
    if scheme is None:
        tensors = is_tensors(reference)
        if not latents and (tensors or (job_of_output(reference) and not is_picture(reference))):
            raise InputNotAnImage(f"{reference[:200]} is a file of another kind")
        most = settings.input_latents_max_bytes if tensors else settings.input_max_bytes
        return read_file(reference, tenant=tenant, store=store, max_bytes=most, owns_output=owns_output)
    match scheme[1].lower():
        case "data":
            return _read_data_url(reference, settings.input_data_url_max_bytes)
        case "https":
            return (fetch or _fetcher(settings))(reference)
        case other:
            msg = f"the reference is a {other}: URL"
            raise InputReferenceInvalid(msg)


def read_file(
    key: str, *, tenant: str, store: ObjectStore, max_bytes: int, owns_output: Callable[[str], bool]
) -> bytes:
    """The bytes under a storage key, of any kind: latents, embeddings or a LoRA of an earlier job, say.

    As `read_input` a key must lie under `inputs/{tenant}/`, or be the output of a job for whose id `owns_output` says
    True. Raises an InputError, or the StorageError of the store.
    """
    try:
        check_key(key)
    except KeyInvalid as error:
        raise InputReferenceInvalid(error.message) from error
    job = job_of_output(key)
    # Nothing is asked of the store first: whether a stranger's key exists is nobody's business.
    if not (key.startswith(input_prefix(tenant)) or (job is not None and owns_output(job))):
        msg = f"{key} is not among the inputs or outputs of tenant {tenant}"
        raise InputForbidden(msg)
    try:
        return store.get(key, limit=max_bytes)
    except ObjectNotFound as error:
        raise InputMissing(error.message) from error
    except ObjectTooLarge as error:
        raise InputTooLarge(error.message) from error


def read_archive(reference: str, *, tenant: str, store: ObjectStore, max_bytes: int) -> bytes:
    """The bytes of a zip: what lies under the key, or the objects under a prefix (`inputs/{tenant}/dots/`), not packed.

    Raises an InputError, or the StorageError of the store.
    """
    if not reference.endswith("/"):
        return read_file(reference, tenant=tenant, store=store, max_bytes=max_bytes, owns_output=lambda _: False)
    try:
        check_prefix(reference)
    except KeyInvalid as error:
        raise InputReferenceInvalid(error.message) from error
    if not reference.startswith(input_prefix(tenant)):
        raise InputForbidden(f"{reference} is not among the inputs of tenant {tenant}")
    return packed_objects(reference, store, max_bytes)


def store_input(
    picture: bytes | Path, *, tenant: str, store: ObjectStore, settings: StorageSettings | None = None
) -> str:
    """Stores a picture (its bytes, or a file) for `tenant` and returns its key, under which read_input finds it.

    By content it may be a .safetensors file of latents or embeddings, or a .zip of a data set. Raises KeyInvalid for a
    name that no tenant can have, and the InputError of what no worker would take. Without settings those of the
    environment hold.
    """
    settings = settings or load_settings()
    input_prefix(tenant)
    data = picture if isinstance(picture, bytes) else _read_file(picture, settings)
    archive = is_archive(data)
    most = settings.input_archive_max_bytes if archive else settings.input_max_bytes
    if len(data) > most:
        msg = f"the {'archive' if archive else 'image'} has more bytes than the limit of {most}"
        raise InputTooLarge(msg)
    extension = ARCHIVE if archive else _checked(data, settings)
    key = input_key(tenant, hashlib.sha256(data).hexdigest(), extension)
    if not store.exists(key):
        store.put(key, data, content_type="application/zip" if archive else FILE_TYPES[extension])
    return key


def _checked(data: bytes, settings: StorageSettings) -> str:
    """What the key of this input ends with, by content. Raises an InputError."""
    if not is_safetensors(data):
        with open_picture(data, max_pixels=settings.input_max_pixels):
            return EXTENSIONS[picture_format(data)]
    if len(data) > settings.input_latents_max_bytes:
        raise InputTooLarge(f"the file has more bytes than the limit of {settings.input_latents_max_bytes}")
    opener = open_embeddings if read_header(data).tensors.keys() & DIMENSIONS.keys() else open_latents
    opener(data)
    return LATENTS


def _read_file(path: Path, settings: StorageSettings) -> bytes:
    """No more than one byte over the limit: it may be anything."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
            most = settings.input_archive_max_bytes if is_archive(head) else settings.input_max_bytes
            return head + file.read(most + 1 - len(head))
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputMissing(f"{str(path)[:100]!r}: {reason}") from None


def _fetcher(settings: StorageSettings) -> Callable[[str], bytes]:
    from darkroom.storage.fetch import Fetcher  # it needs httpcore, which uploading does without

    return Fetcher(settings.input_max_bytes, settings.input_timeout)


def _read_data_url(url: str, max_bytes: int) -> bytes:
    """RFC 2397, base64 only. The media type is not looked at: the content decides."""
    header, comma, encoded = url.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        msg = "the data: URL is not base64"
        raise InputReferenceInvalid(msg, hint="write it as data:image/png;base64,...")
    if len(encoded) // 4 * 3 > max_bytes + 2:
        raise _too_much_data(max_bytes)
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputReferenceInvalid(f"the data: URL is not base64: {error}") from error
    if len(data) > max_bytes:
        raise _too_much_data(max_bytes)
    return data


def _too_much_data(max_bytes: int) -> InputTooLarge:
    msg = f"the data: URL holds more than {max_bytes} bytes"
    return InputTooLarge(msg, hint="upload the image and give its storage key")
