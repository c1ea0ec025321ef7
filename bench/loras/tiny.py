"""LoRAs, a style adapter and a model made of another one, for the tiny model that measurements run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel

from bench.loras.files import Which, attention, everything, transformers, write_lora
from darkroom.tasks.catalogue import FolderSource, ModelEntry
from darkroom.worker.adapters.tiny_style import TINY_SHARES, make_tiny_style

STRONG = 0.3  # of standard deviation: so that pictures are others
QUICK, OWN = "tiny-quick", "own"

#: Which layers each changes, its rank; the last is what the model made of the tiny one has of its own.
LORAS: Mapping[str, tuple[Which, int]] = {
    "pen": (attention, 4),
    "ink": (transformers, 20),
    "grain": (everything, 8),
    OWN: (attention, 8),
}


def adapters_beside(entry: ModelEntry) -> dict[str, list[Any]]:
    """Writes their files beside the model's, and gives their entries of a catalogue."""
    assert isinstance(entry.source, FolderSource)
    folder = entry.source.path.parent
    denoiser = UNet2DConditionModel.from_pretrained(entry.source.path / "unet", local_files_only=True)
    return {
        "models": [_quick(entry)],
        "loras": [_lora(folder, name, denoiser, seed) for seed, name in enumerate(LORAS)],
        "styles": [_style(folder, denoiser)],
    }


def _quick(base: ModelEntry) -> dict[str, Any]:
    same = base.model_dump(mode="json", include={"defaults", "schedulers", "limits"})
    return {"name": QUICK, "base": base.name, "own_loras": [{"name": OWN}], **same}


def _lora(folder: Path, name: str, denoiser: Any, seed: int) -> dict[str, Any]:
    which, rank = LORAS[name]
    path = write_lora(folder / f"{name}.safetensors", denoiser, which, rank, seed, STRONG)
    return {"name": name, "family": "sdxl", "source": {"type": "file", "path": str(path)}}


def write_style(folder: Path, denoiser: Any) -> tuple[Path, Path]:
    """A style adapter of random numbers for this denoiser, and the folder of its tiny image encoder."""
    folder.mkdir()
    return make_tiny_style(denoiser, folder, shares=TINY_SHARES)


def _style(folder: Path, denoiser: Any) -> dict[str, Any]:
    path, encoder = write_style(folder / "style", denoiser)
    source = {"type": "file", "path": str(path), "image_encoder": str(encoder)}
    return {"name": "tiny-style", "family": "sdxl", "source": source}
