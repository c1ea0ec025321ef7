"""Files of embeddings that somebody else made: what is refused before a tensor is made of it."""

import json
import random
import struct
from typing import Any

import pytest

from darkroom.storage.embeddings import open_embeddings
from darkroom.storage.errors import InputCorrupt, InputError, InputNotEmbeddings
from darkroom.storage.tensors import MAX_HEADER

LONG, POOLED = 2 * 3 * 4, 5 * 4  # bytes in float32


def packed(header: Any, body: bytes = b"\0" * (LONG + POOLED), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def described(**changes: Any) -> dict[str, Any]:
    return {
        "prompt_embeds": {"dtype": "F32", "shape": [1, 2, 3], "data_offsets": [0, LONG], **changes},
        "pooled_prompt_embeds": {"dtype": "F32", "shape": [1, 5], "data_offsets": [LONG, LONG + POOLED]},
    }


def test_what_the_file_says() -> None:
    about = {"darkroom": json.dumps({"family": "sdxl"})}
    found = open_embeddings(packed({"__metadata__": about, **described()}))
    assert found.shapes == {"prompt_embeds": (1, 2, 3), "pooled_prompt_embeds": (1, 5)}
    assert (found.dtype, found.about) == ("F32", {"family": "sdxl"})


BAD: list[tuple[bytes, type[InputError], str]] = [
    (b"", InputNotEmbeddings, "no .safetensors file"),
    (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, InputNotEmbeddings, "no .safetensors file"),
    (packed({}, b""), InputNotEmbeddings, "holds nothing"),
    (packed({"latents": described()["prompt_embeds"]}), InputNotEmbeddings, "holds 'latents'"),
    (packed({**described(), "more": 0}), InputNotEmbeddings, "'more'"),
    (packed({"pooled_prompt_embeds": described()["pooled_prompt_embeds"]}), InputNotEmbeddings, "holds 'pooled"),
    (packed(described(dtype="F64")), InputNotEmbeddings, "prompt_embeds is of 'F64'"),
    (packed(described(dtype=["F32"])), InputNotEmbeddings, "embeddings are of F32"),
    (packed(described(dtype="F16", data_offsets=[0, 12])), InputNotEmbeddings, "several types: F16, F32"),
    (packed(described(shape=[2, 3])), InputNotEmbeddings, r"the shape \[2, 3\]; it must be \(1, tokens, width\)"),
    (packed(described(shape=[2, 1, 3])), InputNotEmbeddings, "the shape"),
    (packed(described(shape=[1, 10**12, 10**12])), InputNotEmbeddings, "the shape"),
    (packed(described(shape=[1, 0, 3], data_offsets=[0, 0])), InputNotEmbeddings, "the shape"),
    (packed(described(shape=[1, True, 6])), InputNotEmbeddings, "the shape"),
    (packed(described(), length=2**55), InputCorrupt, "the header is said to have 36028797018963968 bytes"),
    (packed(described(), length=MAX_HEADER + 1), InputCorrupt, "the header is said to have"),
    (packed(described(), length=7), InputCorrupt, "is no JSON"),
    (packed(b'{"prompt_embeds":' + b"[" * 9000), InputCorrupt, "is no JSON"),
    (packed(b'{"a": 1, "a": 2}'), InputCorrupt, "a name is there twice"),
    (packed({"prompt_embeds": 5}), InputCorrupt, "is not described by"),
    (packed(described(extra=1)), InputCorrupt, "is not described by"),
    (packed(described(data_offsets=[0, LONG - 4])), InputCorrupt, "prompt_embeds takes 24 bytes from 0 on"),
    (packed(described(data_offsets=[4, LONG + 4])), InputCorrupt, "it is said to lie at 4 to 28"),
    (packed(described(data_offsets=[0, 2**60])), InputCorrupt, "it is said to lie"),
    (packed(described(data_offsets=[LONG + POOLED, 2 * LONG + POOLED])), InputCorrupt, "it is said to lie"),
    (packed(described(data_offsets="ab")), InputCorrupt, "is said to lie at ab"),
    (packed(described(data_offsets=[0, 1.5])), InputCorrupt, "is said to lie at"),
    (packed(described(), b"\0" * LONG), InputCorrupt, "the tensors take 44 bytes; 24 are there"),
    (packed(described(), b"\0" * 100), InputCorrupt, "100 are there"),
    (packed(described(), b"\0" * LONG + struct.pack("<5f", 0, 0, float("inf"), 0, 0)), InputCorrupt, "no numbers"),
    (packed(described(), struct.pack("<f", float("nan")) + b"\0" * (LONG + POOLED - 4)), InputCorrupt, "no numbers"),
]


@pytest.mark.parametrize(("data", "error", "said"), BAD)
def test_what_is_no_file_of_embeddings(data: bytes, error: type[InputError], said: str) -> None:
    with pytest.raises(error, match=said):
        open_embeddings(data)


def test_a_broken_byte_ends_in_an_error_of_ours_or_in_nothing() -> None:
    draw, good = random.Random(4), packed(described())
    for _ in range(500):
        data = bytearray(good)
        data[draw.randrange(len(data) - LONG)] = draw.randrange(256)
        try:
            open_embeddings(bytes(data))
        except InputError:
            continue
