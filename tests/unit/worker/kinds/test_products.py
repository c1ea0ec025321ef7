"""What a kind of job may hand over besides a picture."""

import json
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load

from darkroom.storage.keys import FILE_TYPES
from darkroom.worker.kinds.products import Produced, ProducedFile

SHEET = ProducedFile("sheet", b"x", "png")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"role": "manifest"}, "'manifest' is no role"),
        ({"role": "a-b"}, "'a-b' is no role"),
        ({"role": "x" * 100}, "x is no role|' is no role"),
        ({"extension": "exe"}, "no file ends with .exe; there are: safetensors, png"),
        ({"extension": "../png"}, "no file ends with"),
        ({"data": b""}, "the latents have no bytes"),
    ],
)
def test_a_file_that_cannot_be(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ProducedFile(**{"role": "latents", "data": b"x", **wrong})


@pytest.mark.parametrize("extension", FILE_TYPES)
def test_the_type_follows_from_the_ending(extension: str) -> None:
    assert ProducedFile("latents", b"x", extension).content_type == FILE_TYPES[extension]


def test_files_alone_are_no_picture() -> None:
    picture = Image.new("RGB", (8, 8))
    assert Produced(picture, [SHEET]).picture is picture
    with pytest.raises(ValueError, match="no picture"):
        _ = Produced(files=[SHEET]).picture


def test_of_each_role_an_image_has_one_file() -> None:
    with pytest.raises(ValueError, match="same role: sheet, sheet"):
        Produced(files=[SHEET, ProducedFile("sheet", b"y")])


def test_a_file_becomes_an_images() -> None:
    assert (SHEET.index, SHEET.of_image(3).index) == (None, 3)
    assert SHEET.of_image(3) == ProducedFile("sheet", b"x", "png", 3)


def test_tensors_come_back_with_what_was_said_of_them(tmp_path: Any) -> None:
    tensors = {
        "latents": torch.arange(24.0).reshape(2, 3, 4).transpose(0, 2),
        "half": torch.ones(3, dtype=torch.bfloat16),
    }
    file = ProducedFile.of_tensors("latents", tensors, seed=7, scheduler="euler")
    back = load(file.data)
    assert {name: torch.equal(back[name], tensors[name]) for name in tensors} == {"latents": True, "half": True}
    path = tmp_path / "x.safetensors"
    path.write_bytes(file.data)
    with safe_open(path, "pt") as opened:
        assert json.loads(opened.metadata()["darkroom"]) == {"seed": 7, "scheduler": "euler"}
    assert "__metadata__" not in str(ProducedFile.of_tensors("latents", tensors).data[:300])


def test_the_same_tensors_are_the_same_bytes_every_time() -> None:
    """With several entries of metadata safetensors writes them in another order each time."""
    tensors, about = {"b": torch.ones(3), "a": torch.ones(2)}, {letter: letter for letter in "qwertzuiopasdfghjkl"}
    assert len({ProducedFile.of_tensors("x", tensors, **about).data for _ in range(3)}) == 1
