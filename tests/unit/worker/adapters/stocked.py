"""A generator with LoRAs of random numbers."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from darkroom.tasks.adapters import LoraEntry
from darkroom.tasks.sources import WeightsFileSource
from darkroom.worker.adapters.adapters import Adapters
from darkroom.worker.adapters.styles import Styles
from darkroom.worker.batching.engine import Engine
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.loading import LoadedModel
from tests.unit.worker.adapters.writers import train, write_kohya

#: Which layers each changes, and how strongly: ranks over one page and below, text encoders, convolutions.
LORAS: Mapping[str, Any] = {
    "attention": {"only": lambda part, path: part == "unet" and "attn" in path, "ranks": (4,)},
    "wide": {"only": lambda part, path: part == "unet" and "conv" not in path, "ranks": (20, 3), "seed": 1},
    "told": {"only": lambda part, path: "attn" in path, "ranks": (8,), "alphas": (4.0,), "seed": 2},
    "convolution": {"only": lambda part, path: part == "unet" and "emb" not in path, "ranks": (6,), "seed": 3},
}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stocked(
    model: LoadedModel, engine: Engine, folder: Path, pages: int = 0, styles: Styles | None = None
) -> Generator:
    """A generator with the LoRAs of above; with so many pages in its bank."""
    adapters = Adapters.of(model, engine, pages, styles)
    for name, how in LORAS.items():
        path = folder / f"{model.entry.name}-{name}.safetensors"
        if not path.exists():
            write_kohya(path, model, train(model, **how), original=False)
        entry = LoraEntry(name=name, families=[model.entry.family], source=WeightsFileSource(path=path))
        adapters.library.add(entry, path, digest(path))
    offering = model.entry.model_copy(update={"loras": adapters.library.offers})
    return Generator(replace(model, entry=offering), engine, adapters)
