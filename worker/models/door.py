"""The one door through which errors of the libraries and the system come while a model is verified and loaded."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from darkroom.tasks.errors import DarkroomError
from darkroom.worker.errors import DeviceBroken, ModelCorrupt, ModelIncompatible, ModelMissing, OutOfMemory
from darkroom.worker.failures import tells_of_device, tells_of_memory

MAX_LINE = 300  # characters


@contextmanager
def one_door(name: str, at: Path | str = "") -> Iterator[None]:
    """What is raised while model `name` is loaded becomes a ModelError; or OutOfMemory or DeviceBroken, the device's.

    `at`: the file that is being read, or the files, which the libraries' errors leave out.
    """
    try:
        yield
    except DarkroomError:
        raise
    except Exception as error:
        raise _ours(name, at, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # how libraries in Rust give up; its class cannot be imported
            raise
        raise _ours(name, at, error) from error


@contextmanager
def other_shapes(config: Path) -> Iterator[None]:
    """What the libraries raise where weights do not fit this config, and advise their caller to, is ours to say."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        which = re.search(r"because (.*?)\. ", str(error))  # diffusers names the first, transformers only logs them
        detail = f": {which[1]}" if which else ""
        raise ModelIncompatible(f"{config}: describes other shapes than its weights have{detail}") from error


def _ours(name: str, at: Path | str, error: BaseException) -> DarkroomError:
    line = f"{f'{at}: ' if at else ''}{first_line(error)}"
    if tells_of_memory(error):
        return OutOfMemory(f"model {name} does not fit the device: {line}")
    if tells_of_device(error):
        return DeviceBroken(f"model {name}: {line}")
    if isinstance(error, SafetensorError):
        return ModelCorrupt(f"model {name}: {line}")
    if isinstance(error, OSError) and error.errno is not None:  # without: transformers' and diffusers' own
        hint = None if isinstance(error, FileNotFoundError) else "the worker must be able to read the model's files"
        return ModelMissing(f"model {name}: {error.filename or at}: {error.strerror}", hint=hint)
    return ModelIncompatible(f"model {name}: {line}", hint=_HINT if at else None)


_HINT = "restore the files, or check `family` in the catalogue entry"


def first_line(error: BaseException) -> str:
    """The libraries write paragraphs; the first line says what happened, or introduces the one that does."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[: 2 if lines[0].endswith(":") else 1]) if lines else ""
    return said[:MAX_LINE] or type(error).__name__
