"""A file that is read once, from its start to its end, and hashed on the way."""

import hashlib
from io import FileIO
from pathlib import Path

import torch

from darkroom.worker.errors import AdapterCorrupt, AdapterDigestMismatch
from darkroom.worker.models.weights import TensorInfo

#: What is read as numbers of a LoRA's matrices; other kinds are rounded or quantized, and not these.
REAL = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

#: What an alpha may be, which some write as a whole number.
NUMBERS = {**REAL, "I64": torch.int64, "I32": torch.int32, "I16": torch.int16}

_CHUNK = 1024 * 1024


class PassingFile:
    """`start` are the first bytes. Raises OSError."""

    def __init__(self, path: Path, raw: FileIO) -> None:
        self._path, self._raw = path, raw
        self._digest = hashlib.sha256()
        self.start = b""

    def read(self, count: int) -> bytes:
        """So many bytes, or fewer at the file's end."""
        buffer = bytearray(count)
        found = bytes(memoryview(buffer)[: self._fill(buffer)])
        self.start = self.start or found
        return found

    def tensor(self, info: TensorInfo) -> torch.Tensor:
        """The next tensor, float32, which must be `info`. Raises AdapterCorrupt where the file ends within it."""
        buffer = bytearray(info.bytes)
        if self._fill(buffer) < info.bytes:
            raise AdapterCorrupt(f"{self._path}: truncated while it was read")
        return torch.frombuffer(buffer, dtype=NUMBERS[info.dtype]).reshape(info.shape).to(torch.float32)

    def digest(self) -> str:
        """The SHA-256 of the whole file, whose rest is read for it."""
        buffer = bytearray(_CHUNK)
        while self._fill(buffer):
            pass
        return self._digest.hexdigest()

    def check(self, sha256: str | None) -> None:
        """Raises AdapterDigestMismatch where the whole file has another SHA-256; None: any will do."""
        if sha256 is not None and self.digest() != sha256:
            raise AdapterDigestMismatch(f"{self._path}: changed, its SHA-256 is {self.digest()} and not {sha256}")

    def _fill(self, buffer: bytearray) -> int:
        view, done = memoryview(buffer), 0
        while done < len(buffer) and (count := self._raw.readinto(view[done : done + _CHUNK])):
            self._digest.update(view[done : done + count])
            done += count
        return done
