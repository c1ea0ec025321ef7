"""Opens embeddings that somebody else made: a safetensors file of a prompt's, for an upload's check and for the worker.

The header is read first, strictly (`darkroom.storage.tensors`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.storage.errors import InputNotEmbeddings
from darkroom.storage.tensors import (
    NUMBERS,
    check_described,
    check_places,
    check_values,
    is_safetensors,
    read_header,
)

#: The tensors, and how many dimensions each has. The first is always there.
DIMENSIONS = {
    "prompt_embeds": 3,
    "negative_prompt_embeds": 3,
    "pooled_prompt_embeds": 2,
    "negative_pooled_prompt_embeds": 2,
}
_MAX_SIDE = 8192  # tokens, and numbers of each


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What the file says: the tensors' shapes, their one dtype (F32, F16 or BF16), and `about` whose they are."""

    shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    about: Mapping[str, Any]


def open_embeddings(data: bytes) -> Embeddings:
    """What the file holds, once all of it is checked: header, names, dtype, shapes, and every value.

    Raises InputNotEmbeddings for what is something else, InputCorrupt for what cannot be.
    """
    if not is_safetensors(data):
        raise InputNotEmbeddings("the input is no .safetensors file, by content")
    header = read_header(data)
    if "prompt_embeds" not in header.tensors or not header.tensors.keys() <= DIMENSIONS.keys():
        raise InputNotEmbeddings(f"the file holds {header.named}; they must be of {', '.join(DIMENSIONS)}")
    shapes = {name: _shape(name, entry) for name, entry in header.tensors.items()}
    dtypes = {entry["dtype"] for entry in header.tensors.values()}
    if len(dtypes) > 1:
        raise InputNotEmbeddings(f"the tensors are of several types: {', '.join(sorted(dtypes))}")
    check_places(header, len(data))
    dtype: str = dtypes.pop()
    check_values(data[header.start :], dtype, "embeddings")
    return Embeddings(shapes, dtype, header.about)


def _shape(name: str, entry: Any) -> tuple[int, ...]:
    check_described(name, entry)
    dtype, shape = entry["dtype"], entry["shape"]
    if not isinstance(dtype, str) or dtype not in NUMBERS:
        raise InputNotEmbeddings(f"{name} is of {str(dtype)[:20]!r}; embeddings are of {', '.join(NUMBERS)}")
    sides = isinstance(shape, list) and len(shape) == DIMENSIONS[name] and all(type(side) is int for side in shape)
    if not sides or shape[0] != 1 or not all(1 <= side <= _MAX_SIDE for side in shape):
        form = "(1, tokens, width)" if DIMENSIONS[name] == 3 else "(1, width)"
        raise InputNotEmbeddings(f"{name} has the shape {str(shape)[:60]}; it must be {form}")
    return tuple(shape)
