"""LoRA files that are broken, changed, hostile or not there."""

import hashlib
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from darkroom.worker.adapters.lora_file import MAX_TENSORS
from darkroom.worker.adapters.names import ModelLayers
from darkroom.worker.adapters.weights import read_lora
from darkroom.worker.errors import (
    AdapterCorrupt,
    AdapterDigestMismatch,
    AdapterError,
    AdapterIncompatible,
    AdapterMissing,
    AdapterUnsafe,
)
from tests.unit.worker.adapters.writers import train, write_kohya
from tests.unit.worker.conftest import Models


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


@pytest.mark.parametrize("name", ["x.pt", "x.bin", "x.CKPT", "x.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_by_name_and_by_content(layers: ModelLayers, tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save(
        {"lora_unet_conv_in.lora_up.weight": torch.ones(4, 4)}, tmp_path / name, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(AdapterUnsafe, match=re.escape(name)) as caught:
        read_lora(tmp_path / name, layers)
    assert caught.value.code == "adapter_unsafe"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("held", [{}, {"a": 1}, {"a": "b" * 100_000}])
def test_what_pickle_itself_writes(layers: ModelLayers, path: Path, protocol: int, held: object) -> None:
    path.write_bytes(pickle.dumps(held, protocol) + bytes(8))
    with pytest.raises(AdapterUnsafe, match="a pickle under another name"):
        read_lora(path, layers)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "truncated"),
        (b"<!DOCTYPE html><html>Log in</html>", "a web page"),
        (b'{"error":"Unauthorized","message":"log in"}', "a web page or an answer"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n", "git-lfs pointer"),
        (b"GGUF" + bytes(100), "not a safetensors file"),
        ((20_000_000).to_bytes(8, "little") + bytes(20_000_000), "a header of 20000000 bytes"),
        ((128).to_bytes(8, "little") + b"{" + b" " * 127, "not JSON"),
        ((640).to_bytes(8, "little") + b"{" + b" " * 639, "not JSON"),
    ],
)
def test_what_is_no_safetensors_file(layers: ModelLayers, path: Path, content: bytes, said: str) -> None:
    path.write_bytes(content)
    with pytest.raises(AdapterCorrupt, match=said) as caught:
        read_lora(path, layers)
    assert caught.value.code == "adapter_corrupt"
    assert "model" not in caught.value.hint or "git lfs" in caught.value.hint or "metadata" in caught.value.hint


def test_a_missing_file_and_a_folder(layers: ModelLayers, path: Path) -> None:
    with pytest.raises(AdapterMissing, match="is not there") as caught:
        read_lora(path, layers)
    assert caught.value.code == "adapter_missing"
    with pytest.raises(AdapterMissing, match="is no regular file"):
        read_lora(path.parent, layers)


def test_more_tensors_than_any_lora_has(layers: ModelLayers, path: Path) -> None:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"lora_unet_{index}.lora_up.weight": empty for index in range(MAX_TENSORS + 1)}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(AdapterIncompatible, match="20001 tensors"):
        read_lora(path, layers)


@pytest.fixture(scope="module")
def whole(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once; read only."""
    model = models("sdxl")
    trained = train(model, alphas=(2, None), only=lambda part, path: "mid_block" in path or part != "unet")
    return write_kohya(tmp_path_factory.mktemp("whole") / "x.safetensors", model, trained, original=True)


def test_the_digest_is_the_files(layers: ModelLayers, whole: Path) -> None:
    found = read_lora(whole, layers)
    assert found.sha256 == hashlib.sha256(whole.read_bytes()).hexdigest()
    assert read_lora(whole, layers, found.sha256).sha256 == found.sha256


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[:-100],
        lambda content: content + b"more",
        lambda content: b"PK\x03\x04" + content[4:],
        lambda content: b"",
    ],
)
def test_a_changed_file_is_told_as_such(
    layers: ModelLayers, whole: Path, path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    path.write_bytes(spoil(whole.read_bytes()))
    with pytest.raises(AdapterDigestMismatch, match="changed") as caught:
        read_lora(path, layers, read_lora(whole, layers).sha256)
    assert caught.value.code == "adapter_digest_mismatch"


def test_a_file_for_another_model_is_told_as_such_if_it_was_asked_for(models: Models, whole: Path) -> None:
    digest = read_lora(whole, models("sdxl").components).sha256
    with pytest.raises(AdapterIncompatible, match="made for SDXL"):
        read_lora(whole, models("sd").components, digest)


def test_any_damage_ends_in_an_answer_or_an_error_of_ours(layers: ModelLayers, whole: Path, path: Path) -> None:
    content = whole.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    generator = torch.Generator().manual_seed(0)
    told: set[str] = set()
    for _ in range(150):
        place, value = (int(torch.randint(high, (1,), generator=generator)) for high in (header, 256))
        damaged = content[:place] + bytes([value]) + content[place + 1 :]
        path.write_bytes(damaged[: len(damaged) - place % 3])
        try:
            read_lora(path, layers)
        except AdapterError as error:
            told.add(error.code)
    assert told == {"adapter_corrupt", "adapter_incompatible"}


@pytest.mark.parametrize("cut", [7, 8, 100, -1])
def test_a_truncated_file(layers: ModelLayers, whole: Path, path: Path, cut: int) -> None:
    path.write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(AdapterCorrupt, match="truncated"):
        read_lora(path, layers)


def test_it_is_opened_once(layers: ModelLayers, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    really = os.open

    def counted(path: Path, *args: Any) -> int:
        opened.append(path)
        return really(path, *args)

    monkeypatch.setattr(os, "open", counted)
    read_lora(whole, layers)
    assert opened == [whole]
