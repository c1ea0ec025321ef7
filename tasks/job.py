"""What is known of a job: the record, read from its Redis hash."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from darkroom.tasks.errors import DarkroomError, JobFailed, QueueBroken
from darkroom.tasks.places import Place
from darkroom.tasks.requests import Request, parse_request
from darkroom.tasks.results import OpenStore, StoredFile, StoredImage, in_order, no_store


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
    """What a job left besides its pictures and files. Times in seconds per phase."""

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
    """The record of a job as it was when read. `claims` counts workers that took it, `failures` its failed tries.

    `needs`: what its worker must have besides the model (`darkroom.tasks.needs`).
    """

    model_config = ConfigDict(frozen=True)

    id: str
    tenant: str
    state: State
    model: str
    lane: str
    needs: list[str] = []
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
    files: list[StoredFile] = []
    result: JobResult | None = None
    error: JobError | None = None
    attempts: list[AttemptNote] = []
    submit_warnings: list[str] = []

    @property
    def seeds(self) -> list[int]:
        """One per image, fixed at submit; none where the kind draws nothing by lot."""
        return self.request.all_seeds

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's own data, as it was submitted."""
        return self.request.metadata

    @property
    def warnings(self) -> list[str]:
        """Said at submit and by the worker, each once."""
        return list(dict.fromkeys([*self.submit_warnings, *(self.result.warnings if self.result else [])]))

    @property
    def object_keys(self) -> list[str]:
        """Keys of all that the record names: pictures, files and the manifest."""
        return [*(made.key for made in (*self.images, *self.files)), *([self.result.manifest] if self.result else [])]

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
            _check_whole(text)
            images = [StoredImage.model_validate_json(v) for k, v in text.items() if k.startswith("image/")]
            files = [StoredFile.model_validate_json(v) for k, v in text.items() if k.startswith("file/")]
            for made in (*images, *files):
                made.within(open_store)
            return cls(
                id=text["id"],
                tenant=text["tenant"],
                state=State(text["state"]),
                model=text["model"],
                lane=text["lane"].rpartition(":")[2],
                needs=json.loads(text.get("needs", "[]")),
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
                files=in_order(files),
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


#: As the scripts have them (`is_whole` in `scripts/shared/records.lua`): what they cannot read nobody looks after.
_FORMS = {
    **dict.fromkeys(("created", "claims", "failures", "lost"), re.compile(r"[0-9]+")),
    "tenant": re.compile(r"[A-Za-z0-9._-]+"),
    "lane": re.compile(r"[A-Za-z0-9._-]+:[A-Za-z]+"),
}


def _check_whole(fields: Mapping[str, str]) -> None:
    for name, form in _FORMS.items():
        if name in fields and not form.fullmatch(fields[name]):
            raise ValueError(f"{name} is {fields[name][:60]!r}")
    if Place.parse(fields["lane"]).needs and "needs" not in fields:
        raise ValueError(f"its lane is {fields['lane'][:60]}, and it has no needs")


def _request(text: str) -> Request:
    return parse_request(json.loads(text), kept=True)


def _time(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(float(milliseconds) / 1000, UTC)
