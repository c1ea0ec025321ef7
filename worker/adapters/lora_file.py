"""A LoRA file by its header: which layers it changes with which tensors, and what it holds besides."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from darkroom.worker.adapters.keys import Naming, read_key
from darkroom.worker.adapters.passing import PassingFile
from darkroom.worker.errors import (
    AdapterCorrupt,
    AdapterError,
    AdapterIncompatible,
    AdapterMissing,
    AdapterUnsafe,
    ModelCorrupt,
)
from darkroom.worker.models.naming import PICKLES
from darkroom.worker.models.opening import open_regular, why_not
from darkroom.worker.models.weights import TensorInfo, WeightsFile, read_header

#: All layers of SDXL and its text encoders, with three tensors each, are 3,200.
MAX_TENSORS = 20_000

#: Its protocol, then a frame or operations. As a header's length it is more than files are let have.
_PICKLE = re.compile(rb"\x80(?:[\x04\x05]\x95|[\x02-\x05][^\x00][^\x00])", re.DOTALL)

_LONGEST = 500  # characters of a name, and of what is said of a broken header, which may quote one


@dataclass(slots=True)
class FileLayer:
    """What a file says of a layer; `name` is its own, without that of the part."""

    part: str | None
    name: str
    down: TensorInfo | None = None
    up: TensorInfo | None = None
    alpha: TensorInfo | None = None

    @property
    def rank(self) -> int:
        """Of its matrices, 0 where there is no telling."""
        if self.down is not None and self.down.shape:
            return self.down.shape[0]
        return self.up.shape[1] if self.up is not None and len(self.up.shape) > 1 else 0

    @property
    def tensors(self) -> list[TensorInfo]:
        """Those that are there."""
        return [tensor for tensor in (self.down, self.up, self.alpha) if tensor is not None]


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A header; `others` are tensors that are none of a plain LoRA, `twice` those whose layer had one before."""

    weights: WeightsFile
    layers: list[FileLayer] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    naming: Naming | None = None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.weights.path

    @property
    def metadata(self) -> dict[str, str]:
        """The header's texts."""
        return self.weights.metadata


def lora_header(path: Path) -> LoraFile:
    """Read from the header alone. Raises an AdapterError."""
    with open_lora(path) as (_, file):
        return file


@contextmanager
def open_lora(path: Path, sha256: str | None = None) -> Iterator[tuple[PassingFile, LoraFile]]:
    """An open file, its header read: the tensors follow in the header's order. Raises an AdapterError.

    At the end of the block, and before an AdapterError of what is within, AdapterDigestMismatch is raised where the
    file is not the one of this SHA-256: one that was changed is told as such, whatever it holds now.
    """
    if path.suffix.lower() in PICKLES:
        raise AdapterUnsafe(f"{path}: {path.suffix} files can run code when they are loaded")
    try:
        with open_regular(path) as raw:
            file = PassingFile(path, raw)
            try:
                yield file, _sorted(_header(path, file, os.fstat(raw.fileno()).st_size))
            except AdapterError:
                file.check(sha256)
                raise
            file.check(sha256)
    except OSError as error:
        raise AdapterMissing(f"{path} {why_not(error)}") from None


def _header(path: Path, file: PassingFile, size: int) -> WeightsFile:
    try:
        found = read_header(path, file.read, size)
    except ModelCorrupt as error:
        raise _broken(path, file.start, error) from None
    if len(found.tensors) > MAX_TENSORS:
        raise AdapterIncompatible(f"{path}: {len(found.tensors)} tensors, no LoRA for a model here has so many")
    longest = max((len(tensor.name) for tensor in found.tensors), default=0)
    if longest > _LONGEST:
        raise AdapterIncompatible(f"{path}: a tensor's name of {longest} characters, no layer has such a name")
    return found


def _broken(path: Path, start: bytes, error: ModelCorrupt) -> AdapterCorrupt | AdapterUnsafe:
    if start.startswith(b"PK\x03\x04") or _PICKLE.match(start):  # torch.save's, new and old
        return AdapterUnsafe(f"{path}: a pickle under another name, which can run code when it is loaded")
    if start.lstrip().startswith((b"<", b'{"')):
        return AdapterCorrupt(f"{path}: a web page or an answer of a server, not the LoRA", hint="fetch the file again")
    own = error.hint if error.hint != ModelCorrupt.hint else None
    return AdapterCorrupt(error.message[:_LONGEST], hint=own)


def _sorted(weights: WeightsFile) -> LoraFile:
    layers: dict[tuple[str | None, str], FileLayer] = {}
    others, twice, naming = [], [], None
    for tensor in weights.tensors:
        key = read_key(tensor.name)
        if key is None:
            others.append(tensor.name)
            continue
        naming = naming or key.naming
        layer = layers.setdefault((key.part, key.layer), FileLayer(key.part, key.layer))
        if getattr(layer, key.role) is not None:
            twice.append(tensor.name)
        setattr(layer, key.role, tensor)
    return LoraFile(weights, list(layers.values()), others, twice, naming)
