"""References to input pictures: which of them can lead nowhere, as far as their text tells.

Storage has the same rules where it reads them (`darkroom.storage.inputs`), and this package may not import it: a test
holds the two alike. What takes the store, a record or the network to know is left to the worker.
"""

import base64
import re
from ipaddress import ip_address
from urllib.parse import urlsplit

#: Decoded; larger pictures are uploaded.
MAX_DATA_URL_BYTES = 200_000
_MAX_KEY_BYTES, _MAX_PART_BYTES = 800, 200

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HOST = re.compile(r"[\w.:%-]{1,253}", re.ASCII)  # a name (RFC 1035, 2.3.4), or an address
_PLACE = r"(?:\d+|(?!manifest-)[a-z][a-z0-9_]{0,31}(?:-\d+)?)"  # of a picture, or of a file by its role
_OUTPUT = re.compile(rf"[A-Za-z0-9][A-Za-z0-9-]*/{_PLACE}-[0-9a-f]{{16}}\.(?P<ending>png|jpe?g|webp|safetensors|json)")
_PICTURES = frozenset({"png", "jpg", "jpeg", "webp"})
_PICTURE = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP", re.DOTALL)

_UPLOAD = "client.upload(path) stores a picture and returns its key"
_FILES = "`job.files` of an earlier job have keys"


class ReferenceFault(ValueError):
    """A reference that leads nowhere; `code` is the one that storage would give."""

    def __init__(self, message: str, code: str = "input_reference_invalid", hint: str = _UPLOAD) -> None:
        super().__init__(f"{message}; {hint}")
        self.code = code


def check_reference(reference: str, tenant: str) -> None:
    """Raises ReferenceFault unless it is a storage key that the tenant may have, a data: URL or an https: URL."""
    scheme = _SCHEME.match(reference)
    match scheme[1].lower() if scheme else "":
        case "":
            _check_key(reference, tenant)
        case "data":
            _check_data(reference)
        case "https":
            _check_https(reference)
        case drive if len(drive) == 1:
            raise ReferenceFault("is a path of your machine, which workers do not see")
        case other:
            raise ReferenceFault(f"is a {other[:20]}: URL; workers read https: and data: alone")


def is_file_key(reference: str, ending: str = "safetensors") -> bool:
    """Whether it is no URL, and ends as the key of such a file does."""
    return _SCHEME.match(reference) is None and reference.endswith(f".{ending}")


def check_file_reference(reference: str, tenant: str, ending: str = "safetensors", role: str | None = None) -> None:
    """Raises ReferenceFault unless it is the key of a file that ends so, and that the tenant may have.

    `role`: of a file that a job made, the one that it must have.
    """
    try:
        _check_place(reference, tenant)
    except ReferenceFault as fault:
        raise ReferenceFault(str(fault).removesuffix(f"; {_UPLOAD}"), fault.code, _FILES) from None
    if not reference.endswith(f".{ending}"):
        raise ReferenceFault(f"{reference[:100]!r} is no .{ending} file", hint=_FILES)
    place = reference.rpartition("/")[2].partition("-")[0]
    if role and _OUTPUT.fullmatch(reference) and place != role:
        raise ReferenceFault(f"{reference[:100]!r} is no file of the role {role}", f"input_not_{role}")


def check_archive_reference(reference: str, tenant: str) -> None:
    """Raises ReferenceFault unless it is the key of a .zip among the tenant's inputs, or a prefix there (`.../`)."""
    if reference.startswith(f"inputs/{tenant}/"):
        _check_place(reference.removesuffix("/"), tenant)
    elif _OUTPUT.fullmatch(reference) or not reference.startswith("inputs/"):
        raise ReferenceFault(f"{reference[:100]!r} is no key of a .zip or prefix of keys")
    else:
        raise ReferenceFault(f"is not among the inputs of tenant {tenant}", "input_forbidden")
    if not reference.endswith(("/", ".zip")):
        raise ReferenceFault(f"{reference[:100]!r} is neither the key of a .zip nor a prefix that ends with a slash")


def _check_key(key: str, tenant: str) -> None:
    _check_place(key, tenant)
    made = _OUTPUT.fullmatch(key)
    if is_file_key(key) or (made and made["ending"] not in _PICTURES):
        raise ReferenceFault(f"{key[:100]!r} is a file of another kind", "input_not_an_image")


def _check_place(key: str, tenant: str) -> None:
    """Raises ReferenceFault unless it is the key of an input of the tenant's, or of a result."""
    parts = key.split("/")
    whole = (
        len(key.encode()) <= _MAX_KEY_BYTES
        and key.isprintable()
        and "\\" not in key
        and all(part and part[0] != "." and len(part.encode()) <= _MAX_PART_BYTES for part in parts)
    )
    if not whole or not (parts[0] == "inputs" or _OUTPUT.fullmatch(key)):
        raise ReferenceFault(
            f"{key[:100]!r} is neither the key of an input or a result nor a URL" if key else "is empty"
        )
    if not (_OUTPUT.fullmatch(key) or key.startswith(f"inputs/{tenant}/")):
        raise ReferenceFault(f"is not among the inputs of tenant {tenant}", "input_forbidden")


def _check_data(url: str) -> None:
    header, _, encoded = url.partition(",")
    if not header.lower().endswith(";base64"):
        raise ReferenceFault("is a data: URL without base64 (data:image/png;base64,...)")
    if len(encoded) // 4 * 3 > MAX_DATA_URL_BYTES + 2:
        raise _too_large()
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise ReferenceFault(f"is a data: URL whose base64 is broken ({error})") from None
    if len(data) > MAX_DATA_URL_BYTES:
        raise _too_large()
    if not _PICTURE.match(data):
        raise ReferenceFault("is a data: URL of something else than PNG, JPEG or WebP", "input_not_an_image")


def _too_large() -> ReferenceFault:
    return ReferenceFault(f"is a data: URL of over {MAX_DATA_URL_BYTES} bytes", "input_too_large")


def _check_https(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
        host = (parts.hostname or "").encode("idna").decode()
    except UnicodeError:
        raise ReferenceFault("is a URL with a part of its host's name that is empty or too long") from None
    except ValueError as error:
        raise ReferenceFault(f"is a URL that cannot be read ({error})") from None
    if not host or "@" in parts.netloc:
        raise ReferenceFault("is a URL that names no host, or a user")
    if not _HOST.fullmatch(host):
        raise ReferenceFault(f"is a URL of a host that cannot be ({host[:100]!r})")
    if _is_private(host):
        raise ReferenceFault("is a URL of a private network, which is not fetched", "input_address_forbidden")


def _is_private(host: str) -> bool:
    """Whether the host is an address that the internet does not lead to. What a name leads to, the worker sees."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False
