"""What a job's record says of an exception: the one door from exceptions to `JobError`."""

from darkroom.storage import InputError, StorageError
from darkroom.tasks.errors import DarkroomError, InvalidRequest
from darkroom.tasks.job import JobError
from darkroom.worker.errors import OutOfMemory

MAX_MESSAGE = 500  # characters
INTERNAL_ERROR = "internal_error"


def job_error(error: BaseException) -> JobError:
    """Errors of our trees keep code and hint; anything else is `internal_error`, a fault of ours."""
    if isinstance(error, MemoryError):
        error = OutOfMemory("the host's memory did not suffice")
    if isinstance(error, DarkroomError | StorageError):
        return JobError(
            code=error.code,
            message=error.message[:MAX_MESSAGE],
            retryable=error.retryable,
            callers_fault=isinstance(error, InputError | InvalidRequest) and not error.retryable,
            hint=error.hint,
        )
    return JobError(
        code=INTERNAL_ERROR,
        message=f"{type(error).__name__}: {error}"[:MAX_MESSAGE].rstrip(": "),
        hint="the worker's log has more; please report it",
    )
