"""What a job's record says of an exception: the one door from exceptions to `JobError`."""

from darkroom.storage import InputError, StorageError
from darkroom.tasks.errors import DarkroomError, InvalidRequest
from darkroom.tasks.job import JobError
from darkroom.worker.errors import AdapterError, OutOfMemory

MAX_MESSAGE = 500  # characters
MAX_FAULTS = 5_000  # characters, where a message names all faults of a request or a data set
INTERNAL_ERROR = "internal_error"


def job_error(error: BaseException) -> JobError:
    """Errors of our trees keep code and hint; anything else is `internal_error`, a fault of ours."""
    if isinstance(error, MemoryError):
        error = OutOfMemory("the host's memory did not suffice")
    if isinstance(error, DarkroomError | StorageError):
        return JobError(
            code=error.code,
            message=_text(error.message, MAX_FAULTS if isinstance(error, InvalidRequest) else MAX_MESSAGE),
            retryable=error.retryable,
            callers_fault=_is_callers(error) and not error.retryable,
            hint=error.hint,
        )
    return JobError(
        code=INTERNAL_ERROR,
        message=_text(_described(error)),
        hint="the worker's log has more; please report it",
    )


def _is_callers(error: Exception) -> bool:
    return isinstance(error, InputError | InvalidRequest) or (isinstance(error, AdapterError) and error.callers_fault)


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".rstrip(": ")
    except Exception:  # noqa: BLE001 - an error that cannot say what it is must not end more than its job
        return type(error).__name__


def _text(message: str, most: int = MAX_MESSAGE) -> str:
    """What a record can hold: some strings cannot be written as UTF-8."""
    return message.encode(errors="replace").decode()[:most]
