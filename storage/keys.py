"""Keys: which are allowed, and what the keys of inputs and outputs look like."""

import re

from darkroom.storage.errors import KeyInvalid

#: S3 allows 1024 bytes with the store's prefix; a folder 255 a part.
MAX_KEY_BYTES = 800
MAX_PART_BYTES = 200

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
LATENTS = "safetensors"
ARCHIVE = "zip"
EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
#: Content types of the files that jobs make besides pictures, by their extensions. Safetensors has no registered one.
FILE_TYPES = {
    "safetensors": "application/octet-stream",
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "json": "application/json",
    "zip": "application/zip",
}

#: What a file is to its job. No hyphen, so that a key tells role, index and digest apart.
_ROLE = r"(?!manifest\b)[a-z][a-z0-9_]{0,31}"
_OUTPUT = re.compile(
    rf"([A-Za-z0-9][A-Za-z0-9-]*)/(?:\d+|{_ROLE}(?:-\d+)?)-[0-9a-f]{{16}}\.(?:{'|'.join(FILE_TYPES)}|jpeg)"
)
_PICTURE = re.compile(r".+\.(?:png|jpe?g|webp)")
_MADE = re.compile(
    r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    rf"/(?:\d+|manifest|{_ROLE}(?:-\d+)?)-[0-9a-f]{{16}}\.(?:{'|'.join(FILE_TYPES)})"
)


def check_key(key: str) -> None:
    """Raises KeyInvalid unless `key` means the same object in every store.

    Parts between slashes are not empty and do not begin with a dot (`..`, and names that a folder hides); no
    backslashes, no control characters.
    """
    fault = _fault(key)
    if fault:
        msg = f"the key {key[:200]!r} {fault}"
        raise KeyInvalid(msg)


def check_prefix(prefix: str) -> None:
    """As `check_key`, for the beginning of a key; "" is the beginning of all."""
    if prefix:
        check_key(prefix.removesuffix("/"))


def _fault(key: str) -> str:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    parts = key.split("/")
    if not 1 <= size <= MAX_KEY_BYTES:
        return f"has {size} bytes, allowed are 1 to {MAX_KEY_BYTES}"
    if "\\" in key or not key.isprintable():
        return "has a backslash or a control character"
    if any(part == "" or part.startswith(".") for part in parts):
        return "has a part that is empty or begins with a dot"
    if max(len(part.encode()) for part in parts) > MAX_PART_BYTES:
        return f"has a part of over {MAX_PART_BYTES} bytes"
    return ""


def input_prefix(tenant: str) -> str:
    """Where a tenant's inputs lie. Raises KeyInvalid for a name that no tenant can have."""
    if not _TENANT.fullmatch(tenant):
        msg = f"{tenant[:64]!r} is no tenant's name"
        raise KeyInvalid(msg)
    return f"inputs/{tenant}/"


def input_key(tenant: str, sha256: str, extension: str) -> str:
    """The key of an uploaded input, by its content: the same one uploaded twice lies there once."""
    if not _SHA256.fullmatch(sha256) or extension not in (*EXTENSIONS.values(), LATENTS, ARCHIVE):
        msg = f"{sha256[:64]!r} with extension {extension[:8]!r} names no input"
        raise KeyInvalid(msg)
    return f"{input_prefix(tenant)}{sha256}.{extension}"


def output_key(job_id: str, index: int, sha256: str, extension: str) -> str:
    """The key of a job's picture, by its content: a late writer replaces nothing that a record names."""
    return f"{job_id}/{index}-{sha256[:16]}.{extension}"


def is_role(name: str) -> bool:
    """Whether a file may have this role: a lower-case letter, then at most 31 of a-z, 0-9 and `_`; not `manifest`."""
    return re.fullmatch(_ROLE, name) is not None


def file_key(job_id: str, role: str, index: int | None, sha256: str, extension: str) -> str:
    """The key of a file that a job made besides its pictures; `index` is that of its image, if it belongs to one."""
    place = role if index is None else f"{role}-{index}"
    return f"{job_id}/{place}-{sha256[:16]}.{extension}"


def job_of_output(key: str) -> str | None:
    """The id of the job whose picture or file this key names; None for any other key."""
    match = _OUTPUT.fullmatch(key)
    return match[1] if match else None


def is_picture(key: str) -> bool:
    """Whether it ends as the key of a picture does."""
    return _PICTURE.fullmatch(key) is not None


def is_tensors(key: str) -> bool:
    """Whether it ends as the key of a file of latents does."""
    return key.endswith(f".{LATENTS}")


def job_of_made(key: str) -> str | None:
    """The id of the job that a worker stored this picture, file or manifest for; None for keys that no worker gives."""
    match = _MADE.fullmatch(key)
    return match[1] if match else None
