"""Files of others, opened without waiting: a FIFO would hold the reader until someone writes, a device has no end."""

import errno
import os
import stat
from io import FileIO
from pathlib import Path


class NoRegularFile(OSError):
    """A folder, a FIFO, a device or a socket."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "is no regular file", str(path))


def open_regular(path: Path) -> FileIO:
    """To read, without a buffer. Raises OSError, NoRegularFile among them."""
    _check(path, path.stat())  # to open a device may be to do something
    file = FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    try:
        _check(path, os.fstat(file.fileno()))  # another may lie there by now
    except OSError:
        file.close()
        raise
    return file


def trouble(path: Path) -> str:
    """What keeps the path from being that of a file, to be said behind it; empty of a file."""
    try:
        _check(path, path.stat())
    except OSError as error:
        return why_not(error)
    return ""


def why_not(error: OSError) -> str:
    """What is the matter with a file, to be said behind its path."""
    match error:
        case FileNotFoundError():
            return "is not there"
        case NoRegularFile(strerror=said):
            return str(said)
        case _:
            return f"cannot be read: {error.strerror or error}"


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NoRegularFile(path)
