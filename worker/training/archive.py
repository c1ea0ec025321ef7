"""Unpacks the zip of a data set into memory: what its headers promise is not believed, and every fault is told."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from darkroom.tasks.errors import Fault
from darkroom.worker.errors import DatasetInvalid
from darkroom.worker.training import collected as limits
from darkroom.worker.training.collected import DATASET, Collected, check_number

# An entry of the directory at a zip's end (PKWARE's APPNOTE, 4.3.12), and two bits of its flags (4.4.4).
_ENTRY = b"PK\x01\x02"
_ENCRYPTED, _IS_UTF8 = 0x1, 0x800

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may ask for gigabytes to be unpacked
_PIECE = 1 << 20  # bytes

# Deflate packs zeros 1,032 times smaller; pictures are packed already. What is small may be of any ratio.
_MOST_RATIO, _SMALL = 100, 10_000_000

#: What zipfile raises for zips that strangers made.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


class _TooMuch(Exception):
    """More bytes than there is room for."""


def unpack(file: Path | BinaryIO) -> Collected:
    """The files of a zip. Raises DatasetInvalid where nothing can be read, or too much would be unpacked.

    A file object has to be seekable. Entries are counted before anything is unpacked, bytes while they are.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return unpack(opened)
    check_number(_entries(file))
    size = file.seek(0, 2)
    with _archive(file) as archive:
        return _unpacked(archive, size)


def _entries(file: BinaryIO) -> int:
    """How many there are at most, counted without making anything of them: a directory may be hundreds of megabytes."""
    file.seek(0)
    found, tail = 0, b""
    while piece := file.read(_PIECE):
        found += (tail + piece).count(_ENTRY)
        tail = piece[1 - len(_ENTRY) :]
    return found


@contextmanager
def _archive(file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(file)
    except _BROKEN as error:
        raise DatasetInvalid([Fault(DATASET, "zip_invalid", f"is no zip that can be read: {error}")]) from error
    with archive:
        yield archive


def _unpacked(archive: zipfile.ZipFile, size: int) -> Collected:
    most, collected = min(limits.MOST_BYTES, _SMALL + _MOST_RATIO * size), Collected()
    for info in archive.infolist():
        name = None if info.filename.endswith("/") else collected.place(_name(info))
        if name is None:
            continue
        if refusal := _refusal(info):
            collected.refuse(name, *refusal)
            continue
        try:
            most -= _take(archive, info, name, collected, most)
        except _TooMuch:
            raise DatasetInvalid([*collected.faults, _bomb(size)]) from None
    return collected


def _take(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, collected: Collected, room: int) -> int:
    """Adds a file, or a fault of it; how many bytes were unpacked. Raises _TooMuch."""
    data = bytearray()
    try:
        with archive.open(info) as stream:
            while len(data) <= limits.MOST_FILE_BYTES and (piece := stream.read(_PIECE)):
                data += piece
                if len(data) > room:
                    raise _TooMuch
    except _BROKEN as error:
        collected.refuse(name, "file_corrupt", f"cannot be unpacked: {error}"[:160])
    else:
        if len(data) > limits.MOST_FILE_BYTES:
            limits.refuse_size(collected, name)
        else:
            collected.files[name] = bytes(data)
    return len(data)


def _name(info: zipfile.ZipInfo) -> str:
    """Programs that write UTF-8 without saying so (macOS) are more than those that mean code page 437."""
    if info.flag_bits & _IS_UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def _refusal(info: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Code and message for a file that is not even opened."""
    kind = stat.S_IFMT(info.external_attr >> 16)  # of the mode, where a Unix system made the entry
    if kind == stat.S_IFLNK:
        return "symlink", "is a symbolic link; put the file itself into the zip"
    if kind not in (0, stat.S_IFREG):
        return "no_file", "is no file (a device, a pipe or the like)"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted", "is encrypted; make the zip without a password"
    if info.compress_type not in _METHODS:
        return "packing_unknown", "is packed in a way that is not read; make the zip with deflate, the usual one"
    return None


def _bomb(size: int) -> Fault:
    if _SMALL + _MOST_RATIO * size < limits.MOST_BYTES:
        return Fault(DATASET, "zip_bomb", f"unpacks to over {_MOST_RATIO} times its {size:,} bytes")
    return limits.too_large()
