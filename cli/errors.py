"""From an exception to what the user is told: a code, a message, what to do, and the exit code (docs/cli.md).

Errors of the command itself hang on the root of `darkroom.tasks.errors`:

CliError
├── UsageFault       usage            options that do not exist or do not go together
├── ExtraMissing     extra_missing    a library of one of Darkroom's extras is not installed
├── FileFault        file_error       a file of this machine cannot be read or written
├── FileRefused      batch_file_invalid  lines of a batch's file cannot be told apart (darkroom.cli.batch.lines)
├── WorkerNotUp      worker_not_up    no worker of this host serves
├── WorkerFailed     worker_failed    a worker that was started ended or did not get ready
└── Interrupted      interrupted      a signal ended the command
"""

from collections.abc import Sequence
from dataclasses import dataclass

import typer

from darkroom.cli.names import meant
from darkroom.storage import StorageError
from darkroom.tasks import DarkroomError, Fault

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_STORAGE = 5  # StorageError knows nothing of commands

#: typer brings its own copy of click or uses the installed one, by version: the root of its errors is found from here.
ClickError: type[Exception] = typer.BadParameter.__mro__[2]

#: Libraries by the extra that brings them.
_EXTRAS = {
    **dict.fromkeys(("boto3", "botocore", "PIL", "httpx", "httpcore"), "s3"),
    **dict.fromkeys(
        ("torch", "diffusers", "transformers", "safetensors", "accelerate", "celery", "kombu", "structlog"), "worker"
    ),
    **dict.fromkeys(("filelock", "huggingface_hub", "peft", "torchsde"), "worker"),
}


class CliError(DarkroomError):
    """Root of the command's own errors."""

    code = "cli_error"


class UsageFault(CliError):
    """Options that do not exist or do not go together."""

    code = "usage"
    exit_code = EXIT_USAGE


class ExtraMissing(CliError):
    """A library of one of Darkroom's extras is not installed."""

    code = "extra_missing"

    def __init__(self, library: str) -> None:
        extra = _EXTRAS[library]
        super().__init__(f"this needs {library}, which is not installed", hint=f'pip install "darkroom[{extra}]"')


class FileFault(CliError):
    """A file of this machine cannot be read or written."""

    code = "file_error"


class WorkerNotUp(CliError):
    """No worker of this host serves."""

    code = "worker_not_up"
    hint = "see the worker's log; it is up once its models are loaded and warm"


class WorkerFailed(CliError):
    """A worker that was started ended, or did not get ready in time; its own exit code is passed on."""

    code = "worker_failed"

    def __init__(self, message: str, exit_code: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code  # type: ignore[misc]  # of this one, not of the class


class Interrupted(CliError):
    """A signal ended the command; its exit code is 128 and the signal's number, as shells have it."""

    code = "interrupted"

    def __init__(self, number: int) -> None:
        super().__init__("interrupted; what was started is stopped")
        self.exit_code = 128 + number  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Report:
    """What the user is told of an error."""

    code: str
    message: str
    hint: str
    faults: Sequence[Fault]
    exit_code: int

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        faults = [fault.as_dict() for fault in self.faults]
        return {"code": self.code, "message": self.message, "hint": self.hint, "faults": faults}


def report(error: BaseException) -> Report | None:
    """The report of an error that is somebody's to mend; None for one that is a fault of ours."""
    if isinstance(error, ModuleNotFoundError) and (library := str(error.name).partition(".")[0]) in _EXTRAS:
        error = ExtraMissing(library)
    elif isinstance(error, OSError) and error.strerror:
        error = FileFault(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    if isinstance(error, DarkroomError):
        return Report(error.code, error.message, error.hint, getattr(error, "faults", ()), error.exit_code)
    if isinstance(error, StorageError):
        return Report(error.code, error.message, error.hint, (), EXIT_STORAGE)
    if isinstance(error, ClickError):
        return _of_click(error)
    return None


def help_was_shown(error: Exception) -> bool:
    """Whether nothing but a name was given, and its help is all that there is to say."""
    return isinstance(error, ClickError) and type(error).__name__ == "NoArgsIsHelpError"


def _of_click(error: Exception) -> Report:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip().replace("Value error, ", "")  # type: ignore[attr-defined]
    hint = f"`{context.command_path} --help` shows how" if context else ""
    unknown = getattr(error, "option_name", None)
    if context and unknown and (near := meant(unknown, {name for one in context.command.params for name in one.opts})):
        message, hint = f"No such option: {unknown}", f"{near} {hint}"
    return Report(UsageFault.code, message, hint, (), EXIT_USAGE)
