"""Every error that Darkroom raises, one tree. `code` is stable and belongs to the API; the text may change.

DarkroomError
├── SettingsInvalid           settings_invalid         a DARKROOM_ variable is not what it should be
├── InvalidRequest            invalid_request          the request has faults, all of them named in `.faults`
├── IdempotencyConflict       idempotency_conflict     the key was used for another request
├── JobNotFound               job_not_found            no record under this id (never made, deleted or expired)
├── JobNotFinished            job_not_finished         the call needs a job that has ended
├── JobNotFailed              job_not_failed           the call needs a job that failed
├── BatchNotFound             batch_not_found          no batch under this id or name (never made, or expired)
├── BatchSealed               batch_sealed             the batch takes no more jobs: it was sealed, or has expired
├── BatchCanceled             batch_canceled           the batch takes no more jobs: it was canceled
├── WishNotSupported          wish_not_supported       the job's kind does nothing of the sort while it runs
├── JobFailed                 job_failed               the job ended without images; `.error` says why
├── WaitTimeout               wait_timeout             the job had not ended in the time given
├── ClientClosed              client_closed            the client was closed in mid-call
├── LoraNameTaken             lora_name_taken          the tenant has a LoRA of this name, and it was not to be replaced
├── LoraNotFound              lora_not_found           the tenant has no LoRA of this name
├── QueueError                                         Redis did not do as asked
│   ├── QueueUnavailable      queue_unavailable  (r)   not reachable, or no answer in time
│   │   └── QueueBusy         queue_busy         (r)   it answers, but this client makes more calls than it can send
│   ├── QueueAuthFailed       queue_auth_failed        wrong password, or the ACL user lacks a right
│   ├── QueueFull             queue_full         (r)   Redis is out of memory, or as many jobs wait as may
│   ├── QuotaExceeded         quota_exceeded       (r)   as many jobs of the tenant, or of its user, wait as may
│   └── QueueBroken           queue_broken             any other refusal of Redis
├── StorageNotConfigured      storage_not_configured   results were asked for, but no store is named
└── StorageFailed             storage_failed           the store did not do as asked; its own code in `.reason`

(r): worth trying again as it is. The worker's errors hang on the same root, in `darkroom.worker.errors`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar


class DarkroomError(Exception):
    """Root of the tree. The message says what happened; `hint` says what to do."""

    code: ClassVar[str] = "darkroom_error"
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1  # of the command `darkroom`; docs/cli.md has them all
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint if hint is not None else type(self).hint

    @property
    def message(self) -> str:
        """What happened, without the hint."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class SettingsInvalid(DarkroomError):
    """A DARKROOM_ variable is not what it should be; the message names every one."""

    code = "settings_invalid"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request: the field, a stable code, and what would be right."""

    field: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"field": self.field, "code": self.code, "message": self.message}


class InvalidRequest(DarkroomError):
    """The request has faults; all of them are in `faults`, in the order of the fields."""

    code = "invalid_request"
    exit_code = 2

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("; ".join(map(str, faults)))


class IdempotencyConflict(DarkroomError):
    """The idempotency key already belongs to a job with another request."""

    code = "idempotency_conflict"
    exit_code = 2
    hint = "use a new key for a new request"


class JobNotFound(DarkroomError):
    """No record under this id."""

    code = "job_not_found"
    exit_code = 7
    hint = "it never existed, was deleted, or its record expired"


class JobNotFinished(DarkroomError):
    """The call needs a job that has ended."""

    code = "job_not_finished"
    exit_code = 7
    hint = "wait for it or cancel it first"


class JobNotFailed(DarkroomError):
    """The call needs a job that failed; this one ended otherwise."""

    code = "job_not_failed"
    exit_code = 7
    hint = "only what failed is tried again; submit it as a new job"


class BatchNotFound(DarkroomError):
    """No batch under this id or name."""

    code = "batch_not_found"
    exit_code = 7
    hint = "it never existed, or its record expired"


class BatchSealed(DarkroomError):
    """The batch takes no more jobs."""

    code = "batch_sealed"
    exit_code = 7
    hint = "what comes later belongs in another batch"


class BatchCanceled(DarkroomError):
    """The batch was canceled, and takes no more jobs."""

    code = "batch_canceled"
    exit_code = 7
    hint = "submit it under another name"


class WishNotSupported(DarkroomError):
    """Something was wished of a running job that its kind does not do."""

    code = "wish_not_supported"
    exit_code = 2
    hint = "a training that is no dry run can be saved while it runs, and sampled where it has sample_prompts"


class JobFailed(DarkroomError):
    """The job ended without the images that were asked for."""

    code = "job_failed"
    exit_code = 8

    def __init__(self, message: str, error: dict[str, Any] | None = None, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.error = error or {}


class WaitTimeout(DarkroomError):
    """The job had not ended in the time given; it goes on."""

    code = "wait_timeout"
    exit_code = 9


class ClientClosed(DarkroomError):
    """The client was closed while the call waited for events; the job goes on."""

    code = "client_closed"


class LoraNameTaken(DarkroomError):
    """The tenant has a LoRA of this name, and it was not to be replaced."""

    code = "lora_name_taken"
    exit_code = 2
    hint = "take another name, or replace it on purpose (`overwrite`)"


class LoraNotFound(DarkroomError):
    """The tenant has no LoRA of this name."""

    code = "lora_not_found"
    exit_code = 7
    hint = "`darkroom loras list --tenant TENANT` shows those that there are"


class QueueError(DarkroomError):
    """Redis did not do as asked. `job_id` is set where a submit raised: submitting again under it is safe."""

    exit_code = 3
    job_id: str | None = None


class QueueUnavailable(QueueError):
    """Redis was not reachable, or gave no answer in time."""

    code = "queue_unavailable"
    retryable = True
    hint = "check DARKROOM_REDIS_URL and the server; `darkroom doctor` looks closer"


class QueueBusy(QueueUnavailable):
    """More calls at once than the client's connections can carry: none came free in time. Redis itself answers."""

    code = "queue_busy"
    hint = "make fewer calls at once, or raise DARKROOM_REDIS_CONNECTIONS"


class QueueAuthFailed(QueueError):
    """Redis refused the password, or the ACL user lacks a right."""

    code = "queue_auth_failed"
    hint = "check user and password in DARKROOM_REDIS_URL"


class QueueFull(QueueError):
    """Redis is out of memory and may not evict, or as many jobs wait in the lane as DARKROOM_QUEUE_LIMIT allows."""

    code = "queue_full"
    retryable = True
    hint = "wait until jobs have been worked off, or raise maxmemory or DARKROOM_QUEUE_LIMIT"
    retry_after: float = 2.0  # seconds


class QuotaExceeded(QueueError):
    """As many jobs of the tenant, or of one of its users, wait as may; `retry_after`: seconds, about."""

    code = "quota_exceeded"
    retryable = True
    hint = "wait until some have been worked off; `darkroom tenants list` shows the limits, `tenants set` changes them"
    retry_after: float = 1.0


class QueueBroken(QueueError):
    """Redis refused a command for a reason that trying again does not cure."""

    code = "queue_broken"


class StorageNotConfigured(DarkroomError):
    """Results were asked for, but no store is named."""

    code = "storage_not_configured"
    exit_code = 5
    hint = 'set DARKROOM_STORAGE_URL (s3://bucket/prefix or file:///folder) and install "darkroom[s3]"'


class StorageFailed(DarkroomError):
    """The store did not do as asked; `reason` is its own code."""

    code = "storage_failed"
    exit_code = 5

    def __init__(self, message: str, reason: str = "storage_error", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
