"""A tiny style adapter, as its file and encoder, and in the processors of a tiny model."""

from pathlib import Path
from typing import Any

from darkroom.worker.adapters.style import load_style
from darkroom.worker.adapters.styles import Styles
from darkroom.worker.adapters.tiny_style import TINY_SHARES, make_tiny_style
from darkroom.worker.batching.engine import Engine
from darkroom.worker.models.digests import hash_files
from darkroom.worker.models.loading import LoadedModel


def write_style(unet: Any, folder: Path) -> tuple[Path, Path]:
    """The adapter's file, which says what its layers carry, and the folder of its encoder."""
    return make_tiny_style(unet, folder, shares=TINY_SHARES)


def in_processors(model: LoadedModel, folder: Path, engine: Engine) -> Styles:
    """Loaded into the model's denoiser."""
    unet = model.components["unet"]
    path, encoder = write_style(unet, folder)
    adapter = load_style(path, encoder, model.entry.family, unet, model.placement)
    digests = {name: file.sha256 for name, file in hash_files({path.name: path}).items()}
    return Styles("tiny-style", digests, "local", adapter, engine)
