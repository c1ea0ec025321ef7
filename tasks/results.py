"""What a job made: pictures and files, as its record names them. Their bytes come from the store when asked for."""

import asyncio
import builtins
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, PrivateAttr, SerializerFunctionWrapHandler, model_serializer

from darkroom.tasks.errors import DarkroomError, StorageFailed, StorageNotConfigured


class ObjectStore(Protocol):
    """What results need of a store; `darkroom.storage` has two."""

    def get(self, key: str) -> bytes:
        """The object's bytes."""

    def url(self, key: str, seconds: int) -> str:
        """A link that anybody may read for so many seconds."""

    def put(self, key: str, data: bytes | Path, *, content_type: str, metadata: Mapping[str, str] = ...) -> None:
        """Stores an object."""

    def list(self, prefix: str) -> Any:
        """Objects under a prefix, each with a `key`."""

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no fault."""


OpenStore = Callable[[], ObjectStore]


def no_store() -> ObjectStore:
    """For records that are read without a view to their objects."""
    raise StorageNotConfigured("no store is configured")


def stored(action: Callable[[], Any]) -> Any:
    """Runs an action on a store; its errors become StorageFailed, the one door for them."""
    try:
        return action()
    except DarkroomError:
        raise
    except Exception as error:
        code = getattr(error, "code", None)
        if not isinstance(code, str):
            raise
        message, hint = getattr(error, "message", str(error)), getattr(error, "hint", "")
        raise StorageFailed(message, code, hint=hint) from error


class StoredResult(BaseModel):
    """An object that a job made. `sha256` and `bytes` (its size) are those of the object."""

    model_config = ConfigDict(frozen=True)

    key: str
    sha256: str
    bytes: int
    content_type: str
    _open_store: OpenStore | None = PrivateAttr(default=None)

    def read(self) -> builtins.bytes:
        """The object's bytes. Raises StorageNotConfigured, StorageFailed."""
        data: builtins.bytes = stored(lambda: self._store().get(self.key))
        return data

    def save(self, path: str | Path) -> Path:
        """Writes it to a file, or into a folder under its own name; returns the file's path."""
        target = Path(path)
        if target.is_dir():
            target /= self.key.rpartition("/")[2]
        target.write_bytes(self.read())
        return target

    def url(self, seconds: int = 3600) -> str:
        """A link that works without credentials for so many seconds (a file: link where the store is a folder)."""
        link: str = stored(lambda: self._store().url(self.key, seconds))
        return link

    def _store(self) -> ObjectStore:
        return (self._open_store or no_store)()

    def within(self, open_store: OpenStore) -> None:
        """Says which store it lies in."""
        self._open_store = open_store

    async def aread(self) -> builtins.bytes:
        """`read` for an event loop."""
        return await asyncio.to_thread(self.read)

    async def asave(self, path: str | Path) -> Path:
        """`save` for an event loop."""
        return await asyncio.to_thread(self.save, path)

    async def aurl(self, seconds: int = 3600) -> str:
        """`url` for an event loop."""
        return await asyncio.to_thread(self.url, seconds)


class StoredImage(StoredResult):
    """One picture of a job. Sizes in pixels; what is read and saved is the encoded picture.

    Of a training's samples: the `step` after which it was made, with the LoRA as it was then, and its `prompt`; None of
    other pictures.
    """

    index: int
    seed: int
    width: int
    height: int
    step: int | None = None
    prompt: str | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Other pictures are written as they were before there were samples."""
        fields: dict[str, Any] = plain(self)
        return {name: value for name, value in fields.items() if value is not None}


class StoredFile(StoredResult):
    """Something else that a job made: latents, embeddings, a LoRA, a contact sheet, as its `role` says.

    `index` is that of the image it belongs to, None where it is of the whole job. Of each role there is at most one of
    an image, and one of the job.
    """

    role: str
    index: int | None = None

    @property
    def place(self) -> str:
        """Where it stands among the job's files: `latents/2`, or `sheet`."""
        return self.role if self.index is None else f"{self.role}/{self.index}"


def in_order(files: list[StoredFile]) -> list[StoredFile]:
    """Those of images by their indices, then those of the whole job; of one image by their roles."""
    return sorted(files, key=lambda file: (file.index is None, file.index or 0, file.role))
