"""LoRAs for storms: more than a small bank holds at a time, and a model that always has one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from darkroom.tasks.catalogue import ModelEntry
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings
from tests.unit.worker.adapters.writers import train, write_kohya

FEW_STEPS = "-few"
#: Each takes five of the sixteen pages that a bank has at least.
RANK, PAGES = 40, 16
LORAS = ("one", "two", "three", "four")


def catalogue(entry: ModelEntry, folder: Path) -> Mapping[str, Any]:
    """With the model what is made of it, and LoRAs, which are written into the folder."""
    placement = Placement(torch.device("cpu"), torch.float32, "full", 1)
    model = load_model(entry, placement, WorkerSettings(models_dir=folder / "models"))
    for seed, name in enumerate(LORAS):
        attention = train(model, ranks=(RANK,), only=lambda _, path: "attn" in path, seed=seed)
        write_kohya(folder / f"{name}.safetensors", model, attention, original=False)
    kept = {"limits", "schedulers", "defaults"}
    few = {**entry.model_dump(mode="json", include=kept), "name": f"{entry.name}{FEW_STEPS}", "base": entry.name}
    loras = [
        {"name": name, "family": entry.family, "source": {"type": "file", "path": f"{name}.safetensors"}}
        for name in LORAS
    ]
    base = entry.model_dump(mode="json", include={*kept, "name", "family", "source"})
    return {"models": [base, {**few, "own_loras": [{"name": LORAS[0], "scale": 0.5}]}], "loras": loras}
