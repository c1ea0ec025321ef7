"""Opens latents that somebody else made: a safetensors file of one tensor, for an upload's check and for the worker.

The header is read here, strictly and before anything else: https://github.com/huggingface/safetensors#format.
"""

import json
import math
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.storage.errors import InputCorrupt, InputNotLatents

NAME = "latents"  # of the tensor
METADATA = "darkroom"  # the entry of the file's metadata that says whose latents they are, as JSON
MAX_HEADER = 16_384  # bytes; with all that Darkroom writes it is 400
_CHANNELS, _MAX_SIDE = 4, 2048  # of latents; eight pixels each

#: How long a number is, what an array of such is called, and the bits that are all set in NaN and infinity.
_NUMBERS = {"F32": (4, "I", 0x7F800000), "F16": (2, "H", 0x7C00), "BF16": (2, "H", 0x7F80)}


@dataclass(frozen=True, slots=True)
class Latents:
    """What the file says: `dtype` is F32, F16 or BF16, `height` and `width` the tensor's, `about` whose they are."""

    dtype: str
    height: int
    width: int
    about: Mapping[str, Any]


def is_safetensors(data: bytes) -> bool:
    """Whether it begins as a safetensors file does: eight bytes with the length of the JSON object that follows."""
    return len(data) > 8 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < 2**56


def open_latents(data: bytes) -> Latents:
    """What the file holds, once all of it is checked: header, name, dtype, shape, and that every value is a number.

    Raises InputNotLatents for what is something else, InputCorrupt for what cannot be.
    """
    if not is_safetensors(data):
        raise InputNotLatents("the input is no .safetensors file, by content")
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER, len(data) - 8):
        raise InputCorrupt(f"the header is said to have {length} bytes; it may have {MAX_HEADER}, and must be there")
    header = _header(data[8 : 8 + length])
    about = _about(header.pop("__metadata__", {}))
    if list(header) != [NAME]:
        raise InputNotLatents(f"the file holds {_named(header)}; it must be the one tensor {NAME}")
    found = _described(header[NAME], len(data) - 8 - length, about)
    _check_finite(data[8 + length :], found.dtype)
    return found


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise InputCorrupt(f"the header is no JSON: {str(error)[:100]}") from None
    if not isinstance(header, dict):
        raise InputCorrupt("the header is no JSON object")
    return header


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _about(metadata: Any) -> Mapping[str, Any]:
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise InputCorrupt("the header's __metadata__ are no JSON object of texts")
    try:
        about = json.loads(metadata.get(METADATA, "{}"))
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise InputCorrupt(f"the metadata under {METADATA!r} are no JSON object")
    return about


def _named(header: Mapping[str, Any]) -> str:
    names = [repr(name[:40]) for name in header]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "nothing"


def _described(entry: Any, size: int, about: Mapping[str, Any]) -> Latents:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise InputCorrupt("the tensor is not described by dtype, shape and data_offsets")
    dtype, shape = entry["dtype"], entry["shape"]
    if not isinstance(dtype, str) or dtype not in _NUMBERS:
        raise InputNotLatents(f"the tensor is of {str(dtype)[:20]!r}; latents are of {', '.join(_NUMBERS)}")
    sides = isinstance(shape, list) and len(shape) == 4 and all(type(side) is int for side in shape)
    if not sides or shape[:2] != [1, _CHANNELS] or not all(1 <= side <= _MAX_SIDE for side in shape[2:]):
        raise InputNotLatents(f"the tensor has the shape {str(shape)[:60]}; latents have (1, 4, height/8, width/8)")
    bytes_ = math.prod(shape) * _NUMBERS[dtype][0]
    if entry["data_offsets"] != [0, bytes_] or size != bytes_:
        where = str(entry["data_offsets"])[:60]
        raise InputCorrupt(f"the tensor takes {bytes_} bytes; it is said to lie at {where}, and {size} are there")
    return Latents(dtype, shape[2], shape[3], about)


def _check_finite(data: bytes, dtype: str) -> None:
    _, code, exponent = _NUMBERS[dtype]
    numbers = array(code, data)
    if sys.byteorder == "big":
        numbers.byteswap()
    if any(number & exponent == exponent for number in numbers):
        raise InputCorrupt("the latents have values that are no numbers (NaN or infinity)")
