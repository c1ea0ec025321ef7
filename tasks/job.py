"""What is known of a job: the record, read from its Redis hash, and the pictures it made."""

import asyncio
import builtins
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PrivateAttr

from darkroom.tasks.errors import DarkroomError, JobFailed, QueueBroken, StorageFailed, StorageNotConfigured
from darkroom.tasks.requests import Request, parse_request


class State(StrEnum):
    """Where a job is in its life; the last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """True once nothing more will happen to the job."""
        return self not in (State.QUEUED, State.RUNNING)


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
    """For records that are read without a view to their pictures."""
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


class StoredImage(BaseModel):
    """One picture of a job. Sizes in pixels and bytes; `sha256` is that of the object's bytes."""

    model_config = ConfigDict(frozen=True)

    index: int
    key: str
    seed: int
    width: int
    height: int
    sha256: str
    bytes: int
    content_type: str
    _open_store: OpenStore | None = PrivateAttr(default=None)

    def read(self) -> builtins.bytes:
        """The encoded picture. Raises StorageNotConfigured, StorageFailed."""
        data: builtins.bytes = stored(lambda: self._store().get(self.key))
        return data

    def save(self, path: str | Path) -> Path:
        """Writes the picture to a file, or into a folder under its own name; returns the file's path."""
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

    async def aread(self) -> builtins.bytes:
        """`read` for an event loop."""
        return await asyncio.to_thread(self.read)

    async def asave(self, path: str | Path) -> Path:
        """`save` for an event loop."""
        return await asyncio.to_thread(self.save, path)

    async def aurl(self, seconds: int = 3600) -> str:
        """`url` for an event loop."""
        return await asyncio.to_thread(self.url, seconds)


class JobError(BaseModel):
    """Why a job failed: a stable code, whether trying again can help, and whether the request is to blame."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    retryable: bool = False
    callers_fault: bool = False
    hint: str = ""


class AttemptNote(BaseModel):
    """An attempt that went wrong: which claim, on which worker, when (seconds since 1970), and why."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    claim: int
    worker: str
    time: float
    error: JobError


class JobResult(BaseModel):
    """What a job made besides its pictures. Times in seconds per phase."""

    model_config = ConfigDict(frozen=True)

    manifest: str
    timings: dict[str, float] = {}
    warnings: list[str] = []


class Progress(BaseModel):
    """The newest step of the newest image."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    image: int
    step: int
    of: int


class Job(BaseModel):
    """The record of a job as it was when read. `claims` counts workers that took it, `failures` its failed tries."""

    model_config = ConfigDict(frozen=True)

    id: str
    tenant: str
    state: State
    model: str
    lane: str
    kind: str
    request: Request
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    claims: int = 0
    failures: int = 0
    worker: str | None = None
    cancel_requested: bool = False
    progress: Progress | None = None
    images: list[StoredImage] = []
    result: JobResult | None = None
    error: JobError | None = None
    attempts: list[AttemptNote] = []
    submit_warnings: list[str] = []

    @property
    def seeds(self) -> list[int]:
        """One per image, fixed at submit."""
        return self.request.seeds or []

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's own data, as it was submitted."""
        return self.request.metadata

    @property
    def warnings(self) -> list[str]:
        """Said at submit and by the worker, each once."""
        return list(dict.fromkeys([*self.submit_warnings, *(self.result.warnings if self.result else [])]))

    def raise_for_state(self) -> "Job":
        """The job itself if it succeeded; raises JobFailed if it ended otherwise."""
        if self.state.final and self.state is not State.SUCCEEDED:
            error = self.error or JobError(code=f"job_{self.state}", message=f"the job was {self.state}")
            raise JobFailed(f"job {self.id} {self.state}: {error.message}", error.model_dump(), hint=error.hint)
        return self

    @classmethod
    def decode(
        cls, fields: Mapping[Any, Any], open_store: OpenStore = no_store, attempts: Sequence[bytes] = ()
    ) -> "Job":
        """From the record's hash and the list of its attempts. Raises QueueBroken where it is not one of ours."""
        try:
            text = {key.decode(): value.decode() for key, value in fields.items()}
            images = [StoredImage.model_validate_json(v) for k, v in text.items() if k.startswith("image/")]
            for image in images:
                image._open_store = open_store
            return cls(
                id=text["id"],
                tenant=text["tenant"],
                state=State(text["state"]),
                model=text["model"],
                lane=text["lane"].rpartition(":")[2],
                kind=text["kind"],
                request=_request(text["request"]),
                created_at=_time(text["created"]),
                started_at=_time(text["started"]) if "started" in text else None,
                ended_at=_time(text["ended"]) if "ended" in text else None,
                claims=int(text["claims"]),
                failures=int(text["failures"]),
                worker=text.get("worker"),
                cancel_requested="cancel" in text,
                progress=Progress.model_validate_json(text["progress"]) if "progress" in text else None,
                images=sorted(images, key=lambda image: image.index),
                result=JobResult.model_validate_json(text["result"]) if "result" in text else None,
                error=JobError.model_validate_json(text["error"]) if "error" in text else None,
                attempts=[AttemptNote.model_validate_json(note) for note in attempts],
                submit_warnings=json.loads(text["warnings"]),
            )
        except (KeyError, ValueError, OverflowError, OSError, RecursionError, DarkroomError) as error:
            # OSError: of absurd times; RecursionError: of JSON that is nested without end
            why = f"it has no {error}" if isinstance(error, KeyError) else error
            raise unreadable(why) from None


def unreadable(why: object) -> QueueBroken:
    """Of a record that is not one of ours."""
    hint = "a newer version or another program wrote it; deleting the job forgets it"
    return QueueBroken(f"the record cannot be read: {why}", hint=hint)


class Jobs(list[Job]):
    """Jobs in their order. `unreadable`: ids of those left out, whose records this version cannot read."""

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: list[str] = []


def canonical_id(job_id: str | UUID) -> str:
    """An id as its record has it, however it was written; what is no UUID stays as it is, and is found nowhere."""
    try:
        return str(UUID(str(job_id)))
    except ValueError:
        return str(job_id)


def _request(text: str) -> Request:
    return parse_request(json.loads(text), kept=True)


def _time(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(float(milliseconds) / 1000, UTC)
