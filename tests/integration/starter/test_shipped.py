"""The files of the starter model: small, pinned, with a card."""

from pathlib import Path

import pytest

import darkroom.worker
from darkroom.tasks.catalogue import builtin_catalogue, load_contents
from darkroom.worker.adapters.style_found import find_style
from darkroom.worker.errors import ModelMissing
from darkroom.worker.models.lockfile import LOCK_NAME
from darkroom.worker.models.sources import verify_model
from darkroom.worker.settings import WorkerSettings

FOLDER = Path(darkroom.worker.__file__).parent / "starter"
ENTRY = builtin_catalogue()["starter"]


def test_it_is_small_enough_for_the_repository() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 25_000_000


def test_it_needs_no_pull_and_every_file_is_the_pinned_one() -> None:
    verified = verify_model(ENTRY, WorkerSettings())
    loaded = {name for name in verified.digests if name.endswith(".safetensors")}
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.safetensors")}
    assert loaded == {name for name in there if not name.startswith(("loras/", "style/"))}
    assert "preview.json" in verified.digests
    assert (FOLDER / LOCK_NAME).is_file()


def test_its_style_is_the_one_of_the_catalogue() -> None:
    entry = load_contents(None).styles["palette"]
    found = find_style(entry, WorkerSettings())
    assert found.files.adapter.parent == FOLDER / "style"
    assert found.digests == entry.digests
    assert max(path.stat().st_size for path in (FOLDER / "style").rglob("*")) <= 1_000_000


def test_its_card_says_how_often_it_is_right() -> None:
    card = (FOLDER / "README.md").read_text()
    for words in ("license: apache-2.0", "| background and colour |", "| denoiser |", "curves.png"):
        assert words in card


def test_a_bundled_model_that_is_not_there_is_named() -> None:
    source = ENTRY.source.model_copy(update={"name": "other"})
    with pytest.raises(ModelMissing, match="no model 'other' comes with Darkroom"):
        verify_model(ENTRY.model_copy(update={"source": source}), WorkerSettings())
