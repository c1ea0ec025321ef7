"""Opens the store that the settings name."""

import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import ValidationError

from darkroom.storage.errors import KeyInvalid, StorageConfigInvalid, StorageNotConfigured
from darkroom.storage.folder import FolderStore
from darkroom.storage.interface import ObjectStore
from darkroom.storage.keys import check_key
from darkroom.storage.marks import Expected, MarkedStore
from darkroom.storage.settings import StorageSettings

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FORMS = "it is s3://bucket/prefix or file:///folder"


def load_settings() -> StorageSettings:
    """The settings in the environment. Raises StorageConfigInvalid, which names every variable that is wrong."""
    try:
        return StorageSettings()
    except ValidationError as error:
        faults = (f"DARKROOM_{'_'.join(map(str, f['loc'])).upper()}: {f['msg']}" for f in error.errors())
        raise StorageConfigInvalid("; ".join(faults).replace("DARKROOM_: ", "")) from None


def open_store(settings: StorageSettings | None = None, *, expected: Expected | None = None) -> ObjectStore:
    """The store of `settings` (none: of the environment); nothing is asked of it yet, `check()` does that.

    `expected` says which mark it must have: without it, it is away. Raises StorageNotConfigured, StorageConfigInvalid.
    """
    store = _opened(settings or load_settings())
    return MarkedStore(store, expected) if expected else store


def _opened(settings: StorageSettings) -> ObjectStore:
    if settings.storage_url is None:
        msg = "no storage is configured"
        raise StorageNotConfigured(msg)
    try:
        parts = urlsplit(settings.storage_url)
    except ValueError:  # no URL at all, such as with a bracket; the error may repeat it
        raise _bad(_FORMS) from None
    if parts.query or parts.fragment:
        raise _bad(f"a query or fragment means nothing here; {_FORMS}")
    if parts.scheme == "file":
        return FolderStore(_folder(parts), settings.storage_mode)
    if parts.scheme == "s3":
        return _bucket(parts, settings)
    raise _bad(_FORMS)


def _folder(parts: SplitResult) -> Path:
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute() or path == Path("/"):
        raise _bad("a folder is named by its absolute path, after three slashes: file:///folder")
    return path


def _bucket(parts: SplitResult, settings: StorageSettings) -> ObjectStore:
    bucket, prefix = parts.netloc, unquote(parts.path).strip("/")
    if not _BUCKET.fullmatch(bucket):
        raise _bad("what stands after s3:// is no bucket's name; keys have variables of their own")
    try:
        check_key(prefix or "none")
        # boto3 takes a third of a second to import, and a folder does without.
        from darkroom.storage.s3 import S3Store
    except KeyInvalid as error:
        raise _bad(f"as a prefix, {error.message}") from error
    except ModuleNotFoundError as error:
        msg = f"storage in S3 needs {error.name}"
        raise StorageConfigInvalid(msg, hint='pip install "darkroom[s3]"') from error
    return S3Store(bucket, prefix, settings)


def _bad(why: str) -> StorageConfigInvalid:
    """Never with the URL: whoever puts a key into it may put it anywhere."""
    return StorageConfigInvalid(f"DARKROOM_STORAGE_URL: {why}")
