"""What the doctor says of the files of LoRAs."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from darkroom.cli.doctor import lora_checks
from darkroom.tasks.catalogue import load_loras
from darkroom.worker.adapters.places import find_lora, pin_found
from darkroom.worker.settings import WorkerSettings
from tests.loras import small_lora


@pytest.fixture
def pen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of the operator's own, which his catalogue names beside the built-in ones."""
    path = small_lora(tmp_path / "pen.safetensors")
    lora = {"name": "pen", "family": "sdxl", "source": {"type": "file", "path": "pen.safetensors"}}
    (tmp_path / "catalogue.json").write_text(json.dumps({"loras": [lora]}))
    monkeypatch.setenv("DARKROOM_CATALOGUE", str(tmp_path / "catalogue.json"))
    monkeypatch.setenv("DARKROOM_MODELS_DIR", str(tmp_path / "models"))
    return path


def told(*, digests: bool = False) -> list[tuple[str, str]]:
    found = [(check.state, check.message) for check in lora_checks.loras(digests=digests)]
    return [one for one in found if "pen" in one[1]]  # others come with Darkroom


def use() -> None:
    """As a worker does at its start."""
    settings = WorkerSettings()
    entry = load_loras(settings.catalogue)["pen"]
    pin_found(entry, find_lora(entry, settings), settings)


def test_one_that_was_not_used_yet_is_not_pinned_by_a_look_at_it(pen: Path) -> None:
    assert told() == told(digests=True) == [("ok", "pen is here (local, 1.52 kB)")]


def test_one_that_is_as_it_was(pen: Path) -> None:
    use()
    assert told(digests=True) == [("ok", "pen is here (local, 1.52 kB), its digest is the pinned one")]


def test_one_that_was_replaced(pen: Path) -> None:
    use()
    small_lora(pen, seed=1)
    assert told() == [("ok", "pen is here (local, 1.52 kB)")]  # its size is right
    changed = f"LoRA pen: {pen} changed since its digest was pinned: its SHA-256 is "
    ((state, said),) = told(digests=True)
    assert (state, said.startswith(changed)) == ("broken", True)
    pen.write_bytes(b"")
    ((state, said),) = told()
    assert (state, said.startswith(changed)) == ("broken", True)


def header(length: int, text: bytes) -> bytes:
    return length.to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("content", "said", "hint"),
    [
        (b"PK\x03\x04" * 9, "a pickle under another name", "convert it to .safetensors"),
        (b"", "truncated", "fetch the file again"),
        (header(1 << 62, b"{}"), "not a safetensors file", "fetch the file again"),
        (header(40, b"[" * 40), "its header is not JSON", "fetch the file again"),
        (header(2, b"{}"), "no LoRA: it holds no tensors of layers", "use a plain LoRA"),
    ],
)
def test_one_that_no_worker_can_use(pen: Path, content: bytes, said: str, hint: str) -> None:
    pen.write_bytes(content)
    (check,) = (one for one in lora_checks.loras(digests=False) if "pen" in one.message)
    assert (check.state, check.message.startswith(f"LoRA pen: {pen}: ")) == ("broken", True)
    assert said in check.message
    assert check.hint.startswith(hint)


def test_one_of_too_high_a_rank(pen: Path) -> None:
    small_lora(pen, rank=200)
    ((state, message),) = told()
    assert (state, "a rank over 128" in message) == ("broken", True)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_one_that_is_no_file(pen: Path, make: Callable[[Path], object]) -> None:
    pen.unlink()
    make(pen)
    assert told() == [("broken", f"LoRA pen: {pen} is no regular file")]


def test_one_that_is_gone(pen: Path) -> None:
    pen.unlink()
    assert told() == [("broken", f"LoRA pen: {pen} is not there")]
