"""The lock file: which files every model consisted of when it was pinned, and their digests.

`darkroom-models.lock` in the models folder, JSON, sorted, so that it can be kept under version control.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from filelock import FileLock, Timeout
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from darkroom.worker.errors import LockInvalid

LOCK_NAME = "darkroom-models.lock"
LOCAL = "local"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LockedFile(_Strict):
    """One file; `bytes` long."""

    bytes: int = Field(ge=0)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _inside(name: str) -> str:
    """The lock file may come from elsewhere: no name in it leads out of the model's folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("leads out of the model's folder")
    return name


FileName = Annotated[str, AfterValidator(_inside)]


class LockedModel(_Strict):
    """One model: `source` is the repository or path, `asked` the catalogue's revision, `revision` the commit."""

    source: str
    asked: str = LOCAL
    revision: Annotated[str, Field(pattern=r"^(local|[0-9a-f]{40})$")] = LOCAL
    variant: str | None = None
    files: dict[FileName, LockedFile]


Models = dict[str, LockedModel]


class LockFile(_Strict):
    """All models by name."""

    version: Literal[1] = 1
    models: Models = {}


def read_lock(models_dir: Path) -> LockFile:
    """The lock file of this folder; an empty one where there is none. Raises LockInvalid."""
    path = models_dir / LOCK_NAME
    try:
        return LockFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return LockFile()
    except OSError as error:
        raise LockInvalid(f"{path}: {error.strerror}", hint="the worker must be able to read it") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise LockInvalid(f"{path}: {where} {fault['msg']}", hint="restore it, or delete it and pull again") from None


def pin(models_dir: Path, name: str, model: LockedModel) -> LockedModel:
    """Enter a model, replacing its old entry. Raises LockInvalid, as the others do."""
    _update(models_dir, lambda models: {**models, name: model})
    return model


def pin_first(models_dir: Path, name: str, model: LockedModel) -> LockedModel:
    """Enter a model unless another process was faster; what is in the file then counts."""
    return _update(models_dir, lambda models: {name: model, **models})[name]


def unpin(models_dir: Path, name: str) -> bool:
    """Take a model out; says whether it was there."""
    found = name in read_lock(models_dir).models
    _update(models_dir, lambda models: {key: model for key, model in models.items() if key != name})
    return found


def _update(models_dir: Path, change: Callable[[Models], Models]) -> Models:
    """Read, change and replace the lock file while no other process does."""
    path = models_dir / LOCK_NAME
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(models_dir / f".{LOCK_NAME}.guard", timeout=60):
            lock = LockFile(models=change(read_lock(models_dir).models))
            _replace(path, json.dumps(lock.model_dump(), indent=1, sort_keys=True) + "\n")
            return lock.models
    except Timeout:
        raise LockInvalid(f"{path}: another process held it for over a minute") from None
    except OSError as error:
        hint = "make the folder that DARKROOM_MODELS_DIR names writable"
        raise LockInvalid(f"{path}: {error.strerror}", hint=hint) from None


def _replace(path: Path, text: str) -> None:
    """A reader sees the old text or the new one, whatever dies in between."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
