"""Opens latents that somebody else made: a safetensors file of one tensor, for an upload's check and for the worker.

The header is read first, strictly (`darkroom.storage.tensors`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.storage.errors import InputNotLatents
from darkroom.storage.tensors import (
    NUMBERS,
    check_described,
    check_places,
    check_values,
    is_safetensors,
    read_header,
)

NAME = "latents"  # of the tensor
_CHANNELS, _MAX_SIDE = 4, 2048  # of latents; eight pixels each


@dataclass(frozen=True, slots=True)
class Latents:
    """What the file says: `dtype` is F32, F16 or BF16, `height` and `width` the tensor's, `about` whose they are."""

    dtype: str
    height: int
    width: int
    about: Mapping[str, Any]


def open_latents(data: bytes) -> Latents:
    """What the file holds, once all of it is checked: header, name, dtype, shape, and every value.

    Raises InputNotLatents for what is something else, InputCorrupt for what cannot be.
    """
    if not is_safetensors(data):
        raise InputNotLatents("the input is no .safetensors file, by content")
    header = read_header(data)
    if list(header.tensors) != [NAME]:
        raise InputNotLatents(f"the file holds {header.named}; it must be the one tensor {NAME}")
    found = _described(header.tensors[NAME], header.about)
    check_places(header, len(data))
    check_values(data[header.start :], found.dtype, "latents")
    return found


def _described(entry: Any, about: Mapping[str, Any]) -> Latents:
    check_described(NAME, entry)
    dtype, shape = entry["dtype"], entry["shape"]
    if not isinstance(dtype, str) or dtype not in NUMBERS:
        raise InputNotLatents(f"the tensor is of {str(dtype)[:20]!r}; latents are of {', '.join(NUMBERS)}")
    sides = isinstance(shape, list) and len(shape) == 4 and all(type(side) is int for side in shape)
    if not sides or shape[:2] != [1, _CHANNELS] or not all(1 <= side <= _MAX_SIDE for side in shape[2:]):
        raise InputNotLatents(f"the tensor has the shape {str(shape)[:60]}; latents have (1, 4, height/8, width/8)")
    return Latents(dtype, shape[2], shape[3], about)
