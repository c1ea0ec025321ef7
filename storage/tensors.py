"""Opens .safetensors files that somebody else made: the header is read here, strictly and before anything else.

The format: https://github.com/huggingface/safetensors#format.
"""

import json
import math
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.storage.errors import InputCorrupt

METADATA = "darkroom"  # the entry of the file's metadata that says whose they are, as JSON
MAX_HEADER = 16_384  # bytes; with all that Darkroom writes it is below 2,000

#: How far from 0 a value may be: no text encoder or scheduler comes near, float16 holds it, and no model overflows.
MOST = 10_000.0
#: How long a number is, what an array of such is called, and the bits of `MOST`. Without their signs floats are in the
#: order of their bits, infinity and NaN after all others.
NUMBERS = {"F32": (4, "I", 0x461C4000), "F16": (2, "H", 0x70E2), "BF16": (2, "H", 0x461C)}


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says: its tensors' entries by their names, and `about` whose they are. They begin at byte `start`."""

    tensors: Mapping[str, Any]
    about: Mapping[str, Any]
    start: int

    @property
    def named(self) -> str:
        """The names, a few of many."""
        names = [repr(name[:40]) for name in self.tensors]
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "nothing"


def is_safetensors(data: bytes) -> bool:
    """Whether it begins as a safetensors file does: eight bytes with the length of the JSON object that follows."""
    return len(data) > 8 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < 2**56


def read_header(data: bytes) -> Header:
    """The header of what `is_safetensors`. Raises InputCorrupt."""
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER, len(data) - 8):
        raise InputCorrupt(f"the header is said to have {length} bytes; it may have {MAX_HEADER}, and must be there")
    header = _header(data[8 : 8 + length])
    about = _about(header.pop("__metadata__", {}))
    return Header(header, about, 8 + length)


def check_described(name: str, entry: Any) -> None:
    """Raises InputCorrupt for a tensor's entry that is not as the format has it, whatever its dtype and shape are."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise InputCorrupt(f"{name} is not described by dtype, shape and data_offsets")
    place = entry["data_offsets"]
    # Python takes false for 0; safetensors does not.
    if not (isinstance(place, list) and len(place) == 2 and all(type(end) is int for end in place)):
        raise InputCorrupt(f"{name} is said to lie at {str(place)[:60]}")


def check_places(header: Header, size: int) -> None:
    """Raises InputCorrupt unless the tensors, whose entries are checked, lie one behind the other and fill the file."""
    at = 0
    for name, entry in sorted(header.tensors.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        taken = math.prod(entry["shape"]) * NUMBERS[entry["dtype"]][0]
        if (first, last) != (at, at + taken):
            where = f"{str(first)[:30]} to {str(last)[:30]}"
            raise InputCorrupt(f"{name} takes {taken} bytes from {at} on; it is said to lie at {where}")
        at = last
    if header.start + at != size:
        raise InputCorrupt(f"the tensors take {at} bytes; {size - header.start} are there")


def check_values(data: bytes, dtype: str, name: str) -> None:
    """Raises InputCorrupt where a number of this dtype is NaN, infinity, or further from 0 than any can be."""
    length, code, most = NUMBERS[dtype]
    numbers, unsigned = array(code, data), (1 << 8 * length - 1) - 1
    if sys.byteorder == "big":
        numbers.byteswap()
    if any(number & unsigned > most for number in numbers):
        raise InputCorrupt(f"the {name} have values that are no numbers (NaN or infinity), or beyond {MOST:,.0f}")


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
