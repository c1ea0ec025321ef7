"""From a catalogue entry to real modules on their device."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from darkroom.tasks.catalogue import ModelEntry
from darkroom.worker.device import Placement
from darkroom.worker.families import FamilySpec, family
from darkroom.worker.settings import WorkerSettings


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate. `components` hold diffusers' names; the scheduler among them is never stepped."""

    entry: ModelEntry
    family: FamilySpec
    components: dict[str, Any]
    placement: Placement
    revision: str
    digests: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)


def load_model(entry: ModelEntry, placement: Placement, settings: WorkerSettings) -> LoadedModel:
    """Load `entry` as `placement` says. Raises a ModelError."""
    spec, folder = family(entry.family), Path(entry.source.path)  # type: ignore[union-attr]
    index = json.loads((folder / "model_index.json").read_text())
    components = {name: _component(spec, name, folder / name, placement) for name in spec.components}
    kind = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["_class_name"]
    components["scheduler"] = spec.schedulers[kind].from_pretrained(folder / "scheduler", local_files_only=True)
    spec.check(components)
    options = {name: index[name] for name in spec.options if name in index}
    return LoadedModel(entry, spec, components, placement, "local", {}, options)


def _component(spec: FamilySpec, name: str, folder: Path, placement: Placement) -> Any:
    loaded_as = spec.components[name]
    if name.startswith("tokenizer"):
        return loaded_as.from_pretrained(folder, local_files_only=True)
    module = loaded_as.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=placement.dtype)
    if name == "vae" and placement.dtype == torch.float16 and module.config.force_upcast:
        module = module.float()
    return module.eval().requires_grad_(False).to(placement.device)
