"""Faults in words for people: of which kind a field is, and nothing of Python's."""

import json
from typing import Any

import pytest

from darkroom.tasks import InvalidRequest, parse_request
from darkroom.tasks.findings import in_words

NAMES = "at most 64 small letters, digits and . _ - make one, which begins with a letter or a digit"
KEY = "inputs/default/a.png"
WAY = {"kind": "interpolate", "frames": 3, "seed_to": 1}


def said(**fields: Any) -> list[str]:
    with pytest.raises(InvalidRequest) as caught:
        parse_request({"prompt": "a", **fields})
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({**WAY, "num_images": 2}, "num_images: is not for interpolate: the frames are its pictures"),
        ({**WAY, "seeds": [1, 2]}, "seeds: is not for interpolate: it goes from one seed to seed_to"),
        ({"frames": 3}, "frames: is not for txt2img, but for interpolate"),
        ({"strength": 0.5}, "strength: is not for txt2img, but for img2img, inpaint, stylize"),
        ({"wdith": 512}, "wdith: there is no such field"),
        ({"kind": "inpaint", "image": KEY, "extend": "x"}, "extend: should be an object of named values"),
        ({"hires": 3}, "hires: should be an object of named values"),
        ({"crop": [1, 2, 3]}, "crop: list should have at most 2 items, not 3"),
        ({"metadata": {"a": 10**5000}}, "metadata: cannot be written as JSON: it has a number of thousands of digits"),
        ({"tenant": "\ud800"}, "tenant: has a lone surrogate, which is no text"),
        ({"model": "SDXL"}, f"model: is no name: {NAMES}"),
        (
            {"loras": [{"name": "pen", "sha256": "A" * 64}]},
            "loras.0.sha256: is no SHA-256: 64 digits and small letters from a to f",
        ),
    ],
)
def test_a_fault_speaks_of_the_request(fields: dict[str, Any], words: str) -> None:
    assert said(**fields) == [words]


def test_a_url_of_no_host_says_so() -> None:
    (words,) = said(kind="img2img", image="https://a..b/x.png")
    assert words.startswith("image: is a URL with a part of its host's name that is empty or too long")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"9" * 5000, "it has a number of thousands of digits"),
        (b"\xff\xfea", "it is no text in UTF-8"),
        (b'{"a": \xff}', "it is no text in UTF-8"),
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ],
)
def test_what_is_no_json_says_why(data: bytes, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        json.loads(data)
    assert in_words(caught.value) == words
