"""What a safetensors file holds, read from its header: no tensor is loaded, and a broken file is found early.

Layout (https://github.com/huggingface/safetensors#format): 8 bytes with the header's length (little endian), the
header as JSON, then the tensors' bytes without gaps.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkroom.tasks.findings import in_words
from darkroom.worker.errors import ModelCorrupt, ModelIncompatible
from darkroom.worker.models.opening import open_regular

#: The format allows ten times as much. SDXL's takes 0.4 MB; this much, all of it tensors, two seconds to read.
MAX_HEADER = 10_000_000

#: Bytes of one element.
DTYPES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
}


_HEADER = "take out metadata that is no model's, such as pictures"

# Tensors of whole numbers that belong to models: places of tokens, and counters of a training.
_COUNTERS = ("position_ids", "num_batches_tracked", "num_updates")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor; `bytes` in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def parameters(self) -> int:
        """Elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """One file; `bytes` with the header."""

    path: Path
    tensors: tuple[TensorInfo, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    bytes: int = 0

    @property
    def names(self) -> frozenset[str]:
        """Of all tensors."""
        return frozenset(tensor.name for tensor in self.tensors)

    def tensor(self, name: str) -> TensorInfo | None:
        """The tensor of this name."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def dtypes(self) -> dict[str, int]:
        """Parameters by dtype, most first."""
        counts: dict[str, int] = {}
        for tensor in self.tensors:
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.parameters
        return dict(sorted(counts.items(), key=lambda item: -item[1]))


def inspect_weights(path: Path) -> WeightsFile:
    """Read and check the header. Raises ModelCorrupt, and OSError where the file cannot be read."""
    with open_regular(path) as file:
        return read_header(path, file.read, os.fstat(file.fileno()).st_size)


def read_header(path: Path, read: Callable[[int], bytes], size: int) -> WeightsFile:
    """The header of an open file of `size` bytes, which is left where the tensors' bytes begin. Raises ModelCorrupt.

    The tensors are in the order of their bytes, which leave no gaps: what follows is theirs, one after the other.
    """
    start = read(8)
    length = int.from_bytes(start, "little")
    _check_start(path, start, length, size)
    header = _parse(path, read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelCorrupt(f"{path}: its metadata is not a table of texts")
    spans = sorted((_span(path, name, entry) for name, entry in header.items()), key=lambda span: span[0])
    _check_spans(path, spans, size - 8 - length)
    return WeightsFile(path, tuple(info for _, info in spans), metadata, size)


def check_kinds(file: WeightsFile, prefixes: tuple[str, ...] = ("",)) -> None:
    """Raises ModelIncompatible for weights that are no real numbers, which the libraries would round without a word."""
    for tensor in file.tensors:
        real = tensor.dtype.startswith(("F", "BF"))
        if not real and tensor.name.startswith(prefixes) and not tensor.name.endswith(_COUNTERS):
            raise ModelIncompatible(
                f"{file.path}: {tensor.name!r} holds {tensor.dtype}, no weights that can be run",
                hint="quantized weights are not supported: use the fp16 or bf16 ones",
            )


def _check_start(path: Path, start: bytes, length: int, size: int) -> None:
    if start.startswith(b"version"):
        raise ModelCorrupt(f"{path}: a git-lfs pointer, not the weights", hint="run `git lfs pull` in its folder")
    if len(start) < 8 or size < 8 + length <= 8 + MAX_HEADER:
        raise ModelCorrupt(f"{path}: truncated, it ends within its header")
    if size < 8 + length:
        raise ModelCorrupt(f"{path}: not a safetensors file (a header of {length} bytes)")
    if length > MAX_HEADER:
        raise ModelCorrupt(f"{path}: a header of {length} bytes; models have less than {MAX_HEADER}", hint=_HEADER)


def _parse(path: Path, header: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(header, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ModelCorrupt(f"{path}: its header is not JSON (nested too deep)") from None
    except ValueError as error:
        raise ModelCorrupt(f"{path}: its header is not JSON ({in_words(error)})") from None
    if not isinstance(parsed, dict):
        raise ModelCorrupt(f"{path}: its header is not a table")
    return parsed


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name twice")
    return table


def _span(path: Path, name: str, entry: Any) -> tuple[tuple[int, int], TensorInfo]:
    """Begin and end of a tensor among the data, checked against its dtype and shape."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        size = DTYPES[dtype]
    except (KeyError, TypeError, ValueError):
        why = f"dtype, a shape and two offsets are what it needs; dtypes are {', '.join(DTYPES)}"
        raise ModelCorrupt(f"{path}: tensor {name!r} is described wrongly ({why})") from None
    whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    if not whole or math.prod(shape) * size != end - begin:
        why = "shape, dtype and offsets do not agree"
        raise ModelCorrupt(f"{path}: tensor {name!r} is described wrongly ({why})")
    return (begin, end), TensorInfo(name, dtype, shape, end - begin)


def _check_spans(path: Path, spans: list[tuple[tuple[int, int], TensorInfo]], available: int) -> None:
    position = 0
    for (begin, end), info in spans:
        if begin != position:
            raise ModelCorrupt(f"{path}: tensor {info.name!r} overlaps another one or leaves a gap")
        position = end
    if position > available:
        raise ModelCorrupt(f"{path}: truncated, {position - available} bytes of its tensors are missing")
    if position < available:
        raise ModelCorrupt(f"{path}: {available - position} bytes follow its last tensor")
