"""Style adapters of the models of a process: taken where they are here and fit, else told of."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from darkroom.tasks.catalogue import load_contents
from darkroom.worker.batching.engine import Engine
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.lockfile import read_lock
from darkroom.worker.process.pinned import Pinned, named_entries
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.styles import write_style
from tests.unit.worker.process.conftest import in_catalogue


class Place:
    """A catalogue of a tiny model and a style adapter, and how it is pinned."""

    def __init__(self, folder: Path, entry: Any, engine: Engine) -> None:
        self.folder, self.engine = folder, engine
        self.settings = WorkerSettings(models_dir=folder / "models", catalogue=folder / "catalogue.json")
        model = load_model(entry, Placement(torch.device("cpu"), torch.float32, "full", 1), self.settings)
        self.path, self.encoder = write_style(model.components["unet"], folder)
        self.model = in_catalogue(entry)
        self.style: dict[str, Any] = {
            "name": "tiny-style",
            "family": entry.family,
            "source": {"type": "file", "path": self.path.name, "image_encoder": self.encoder.name},
        }

    def pinned(self, memory: Any = "full", speedups: tuple[Any, ...] = ()) -> Generator:
        (self.folder / "catalogue.json").write_text(json.dumps({"models": [self.model], "styles": [self.style]}))
        contents = load_contents(self.folder / "catalogue.json")
        placement = Placement(torch.device("cpu"), torch.float32, memory, 1, frozenset(speedups))
        entries = named_entries([self.model["name"]], contents)
        (found,) = Pinned(contents, placement, self.settings, self.engine).generators(entries).values()
        return found

    def refused(self) -> list[tuple[str, str]]:
        """What the log tells of a worker that starts without stylize."""
        with capture_logs() as logs:
            assert "stylize" not in self.pinned().entry.kinds
        return [(line["style"], line["code"]) for line in logs if line["event"] == "adapter.not_offered"]


@pytest.fixture
def place(tmp_path: Path, tiny_models: TinyModels, engine: Engine) -> Place:
    return Place(tmp_path, tiny_models("sdxl"), engine)


def test_a_model_with_its_adapter_offers_the_kind_and_the_files_are_pinned(place: Place) -> None:
    found = place.pinned()
    assert "stylize" in found.entry.offer().kinds
    assert found.adapters and found.adapters.styles
    assert found.adapters.styles.name == "tiny-style"
    locked = read_lock(place.settings.models_dir).models["styles/tiny-style"]
    assert sorted(locked.files) == [
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
        "ip_adapter.safetensors",
    ]
    assert found.adapters.styles.digests == {name: file.sha256 for name, file in locked.files.items()}


def test_an_adapter_that_cannot_be_used_is_told_of(place: Place) -> None:
    whole = place.path.read_bytes()
    place.path.write_bytes(whole[:-100])
    assert place.refused() == [("tiny-style", "adapter_corrupt")]
    place.path.write_bytes(whole)  # what was no use was not pinned
    assert "stylize" in place.pinned().entry.kinds
    place.path.write_bytes(whole[:-100] + b"\1" * 100)
    assert place.refused() == [("tiny-style", "adapter_digest_mismatch")]
    place.path.write_bytes(whole)
    (place.settings.models_dir / "darkroom-models.lock").unlink()
    place.encoder.rename(place.folder / "away")
    assert place.refused() == [("tiny-style", "adapter_missing")]


def test_one_of_another_family_is_told_of(
    place: Place, tiny_models: TinyModels, engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other", tiny_models("sd"), engine)
    place.path.write_bytes(other.path.read_bytes())
    assert place.refused() == [("tiny-style", "adapter_incompatible")]
    place.style["family"] = "sd"
    assert place.refused() == []


def test_an_entry_that_names_the_kind_insists(place: Place) -> None:
    place.model["kinds"] = ["txt2img", "stylize"]
    assert place.pinned().entry.kinds == ["txt2img", "stylize"]
    place.encoder.rename(place.folder / "away")
    with pytest.raises(ModelIncompatible, match=r"tiny-sdxl: its entry names the kind stylize.*image_encoder is not"):
        place.pinned()
    place.style["family"] = "sd"
    with pytest.raises(ModelIncompatible, match="no style adapter can be used with it"):
        place.pinned()


@pytest.mark.parametrize(("memory", "speedups"), [("attention_slicing", ()), ("full", ("fuse",))])
def test_it_does_not_go_with_other_processors(place: Place, memory: str, speedups: tuple[str, ...]) -> None:
    assert "stylize" not in place.pinned(memory, speedups).entry.kinds
