"""Files of latents that somebody else made: what is refused before a tensor is made of it."""

import json
import random
import struct
from typing import Any

import pytest

from darkroom.storage.errors import InputCorrupt, InputError, InputNotLatents
from darkroom.storage.latents import open_latents
from darkroom.storage.tensors import MAX_HEADER, is_safetensors

SHAPE, SIZE = [1, 4, 2, 3], 96  # bytes in float32


def packed(header: Any, body: bytes = b"\0" * SIZE, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def described(**changes: Any) -> dict[str, Any]:
    return {"latents": {"dtype": "F32", "shape": SHAPE, "data_offsets": [0, SIZE], **changes}}


@pytest.mark.parametrize(("dtype", "size"), [("F32", 96), ("F16", 48), ("BF16", 48)])
def test_what_the_file_says(dtype: str, size: int) -> None:
    about = {"darkroom": json.dumps({"family": "sdxl", "seed": 7}), "format": "pt"}
    tensor = described(dtype=dtype, data_offsets=[0, size])
    found = open_latents(packed({"__metadata__": about, **tensor}, b"\0" * size))
    assert (found.dtype, found.height, found.width, found.about) == (dtype, 2, 3, {"family": "sdxl", "seed": 7})
    assert open_latents(packed(tensor, b"\0" * size)).about == {}


NOT_LATENTS = [
    (b"", "no .safetensors file"),
    (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "no .safetensors file"),
    (b"<html>" * 10, "no .safetensors file"),
    (packed({}, b""), "holds nothing; it must be the one tensor latents"),
    (packed({"embeds": described()["latents"]}), "holds 'embeds'"),
    (packed({**described(), "more": described()["latents"]}), "holds 'latents', 'more'"),
    (packed({str(n): 0 for n in range(400)}), "and 395 more"),
    (packed({**described(dtype="F64")}), "of 'F64'"),
    (packed({**described(dtype=["F32"])}), "latents are of F32"),
    (packed({**described(shape=[1, 4, 6])}), r"the shape \[1, 4, 6\]"),
    (packed({**described(shape=[2, 4, 1, 3])}), "the shape"),
    (packed({**described(shape=[1, 3, 2, 4])}), "the shape"),
    (packed({**described(shape=[1, 4, 0, 3], data_offsets=[0, 0])}, b""), "the shape"),
    (packed({**described(shape=[1, 4, -2, -3])}), "the shape"),
    (packed({**described(shape=[1, 4, 2.0, 3])}), "the shape"),
    (packed({**described(shape=[1, 4, True, 6])}), "the shape"),
    (packed({**described(shape=[1, 4, 10**30, 3])}), "the shape"),
    (packed({**described(shape="1423")}), "the shape"),
]

CORRUPT = [
    (packed(described(), length=2**55), "the header is said to have 36028797018963968 bytes"),
    (packed(described(), length=MAX_HEADER + 1), "the header is said to have"),
    (packed(described(), length=5000), "must be there"),
    (packed(described(), length=3), "is no JSON"),
    (packed(b'{"\xff\xfe": 1}'), "is no JSON"),
    (packed(b'{"a": ' + b"[" * 9000), "is no JSON"),
    (packed(b'{"latents": 1, "latents": 2}'), "a name is there twice"),
    (packed({"__metadata__": [], **described()}), "__metadata__"),
    (packed({"__metadata__": {"seed": 1}, **described()}), "__metadata__"),
    (packed({"__metadata__": {"darkroom": "{"}, **described()}), "under 'darkroom'"),
    (packed({"__metadata__": {"darkroom": "[1]"}, **described()}), "under 'darkroom'"),
    (packed({"latents": {"dtype": "F32"}}), "is not described"),
    (packed({"latents": [1]}), "is not described"),
    (packed(described(data_offsets=[0, 48])), "said to lie at 0 to 48"),
    (packed(described(data_offsets=[False, SIZE])), r"said to lie at \[False, 96\]"),
    (packed(described(data_offsets=[0.0, SIZE])), "said to lie at"),
    (packed(described(data_offsets=[0])), "said to lie at"),
    (packed(described(data_offsets=[8, SIZE + 8])), "said to lie at"),
    (packed(described(data_offsets=[-1, 95])), "said to lie at"),
    (packed(described(data_offsets=[0, 2**70])), "said to lie at"),
    (packed(described(), b"\0" * 95), "; 95 are there"),
    (packed(described(), b"\0" * 200), "; 200 are there"),
]


@pytest.mark.parametrize(("data", "why"), NOT_LATENTS)
def test_what_is_something_else(data: bytes, why: str) -> None:
    with pytest.raises(InputNotLatents, match=why):
        open_latents(data)


@pytest.mark.parametrize(("data", "why"), CORRUPT)
def test_what_cannot_be(data: bytes, why: str) -> None:
    assert is_safetensors(data)
    with pytest.raises(InputCorrupt, match=why):
        open_latents(data)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("F32", struct.pack("<f", float("nan"))),
        ("F32", struct.pack("<f", float("-inf"))),
        ("F16", struct.pack("<e", float("nan"))),
        ("F16", struct.pack("<e", float("inf"))),
        ("BF16", b"\xc0\x7f"),
        ("BF16", b"\x80\xff"),
        ("F32", struct.pack("<f", 1e30)),
        ("F32", struct.pack("<f", -10000.001)),
        ("F16", struct.pack("<e", -10008)),
        ("BF16", b"\x1d\x46"),  # 10,048
    ],
)
@pytest.mark.parametrize("place", [0, 23])
def test_values_that_are_no_numbers_or_too_large(dtype: str, value: bytes, place: int) -> None:
    size = 24 * len(value)
    body = bytearray(size)
    body[place * len(value) : (place + 1) * len(value)] = value
    with pytest.raises(InputCorrupt, match=r"NaN or infinity\), or beyond 10,000"):
        open_latents(packed(described(dtype=dtype, data_offsets=[0, size]), bytes(body)))


def test_the_largest_numbers_are_taken() -> None:
    for dtype, value in (("F32", struct.pack("<f", -1e4)), ("F16", struct.pack("<e", 1e4)), ("BF16", b"\x1c\xc6")):
        size = 24 * len(value)
        assert open_latents(packed(described(dtype=dtype, data_offsets=[0, size]), value * 24)).dtype == dtype


def test_whatever_is_damaged_is_refused_with_an_error_of_ours() -> None:
    whole, draw = packed({"__metadata__": {"darkroom": '{"family": "sd"}'}, **described()}), random.Random(3)
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.3:
            del data[draw.randrange(len(data)) :]
        try:
            open_latents(bytes(data))
        except InputError:
            refused += 1
    assert refused > 1500
