"""From a catalogue entry to real modules on their device.

Verified first, loaded second: no weight is read before every digest was compared. What is loaded as what is decided by
the family, never by a name in the model's files; nothing is unpickled, nothing downloaded, no code of a repository run.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.validate import size_faults
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.models.checkpoints import check_checkpoint
from darkroom.worker.models.configs import read_config, read_json
from darkroom.worker.models.device import Placement
from darkroom.worker.models.digests import Progress
from darkroom.worker.models.door import one_door
from darkroom.worker.models.families import FamilySpec, family
from darkroom.worker.models.layout import PREVIEW_FILE, Layout
from darkroom.worker.models.memory import place
from darkroom.worker.models.previews import PreviewMap, read_map
from darkroom.worker.models.single_file import load_single_file
from darkroom.worker.models.sources import verify_model
from darkroom.worker.models.training import as_trained
from darkroom.worker.models.tuning import tune
from darkroom.worker.models.weights import inspect_weights
from darkroom.worker.settings import Size, WorkerSettings


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate.

    `components` hold diffusers' names; the scheduler among them is the model's own, a template that is never stepped.
    `revision` is the hub's commit or "local", `digests` the SHA-256 of every file that was used. `options` are the
    pipeline's own from `model_index.json`: hand them to `family.pipeline`. `preview` is the model's own map, if any.
    """

    entry: ModelEntry
    family: FamilySpec
    components: dict[str, Any]
    placement: Placement
    revision: str
    digests: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)
    preview: PreviewMap | None = None


def warm_sizes(entry: ModelEntry, placement: Placement) -> tuple[Size, ...]:
    """What to be ready for before the first job. Raises ModelIncompatible for a size that the model does not make."""
    sizes = placement.warm_sizes or ((entry.defaults.width, entry.defaults.height),)
    for width, height in sizes:
        if any(size_faults(width, height, entry)):
            raise ModelIncompatible(
                f"{entry.name} makes no pictures of {width}x{height} pixels",
                hint="correct DARKROOM_WARM_SIZES; the catalogue entry has the model's limits",
            )
    return sizes


def load_model(
    entry: ModelEntry, placement: Placement, settings: WorkerSettings, progress: Progress | None = None
) -> LoadedModel:
    """Verify and load `entry` as `placement` says; `progress` hears how far the verification is.

    Raises a ModelError, or OutOfMemory where the device does not hold it.
    """
    spec = family(entry.family)
    if "compile" in placement.speedups and os.access(settings.models_dir, os.W_OK):
        # Beside the models, which outlive a container; torch's own choice is a temporary folder.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(settings.models_dir / ".compiled"))
    with one_door(entry.name):
        verified = verify_model(entry, settings, progress)
        layout = verified.layout
        scheduler = _scheduler(spec, layout)  # first, since it takes no time and may refuse the weights
        components = {**_modules(spec, layout, placement), **_tokenizers(spec, layout.configs), "scheduler": scheduler}
        spec.check(components)
        preview = read_map(layout.configs / PREVIEW_FILE)
        place({name: components[name] for name in spec.modules}, placement)
        tune(components, placement, warm_sizes(entry, placement))
        if placement.device.type == "cuda":
            torch.cuda.synchronize(placement.device)  # the streams of service do not wait for this one
    options = {name: layout.index[name] for name in spec.options if name in layout.index}
    return LoadedModel(entry, spec, components, placement, verified.revision, verified.digests, options, preview)


def _modules(spec: FamilySpec, layout: Layout, placement: Placement) -> dict[str, Any]:
    dtypes = {name: _dtype(spec, name, layout.configs, placement) for name in spec.modules}
    if layout.single:
        modules = load_single_file(spec, layout.single, layout.configs, dtypes)
    else:
        modules = {name: _from_folder(spec, name, layout, dtypes[name]) for name in spec.modules}
    return {name: module.eval().requires_grad_(requires_grad=False) for name, module in modules.items()}


def _dtype(spec: FamilySpec, name: str, configs: Path, placement: Placement) -> torch.dtype:
    """The placement's, but float32 for a VAE that overflows in float16."""
    if not (name == "vae" and spec.upcasts_vae and placement.dtype == torch.float16):
        return placement.dtype
    upcast = read_json(configs / "vae" / "config.json").get("force_upcast", True)  # diffusers' own default
    return torch.float32 if upcast else placement.dtype


def _from_folder(spec: FamilySpec, name: str, layout: Layout, dtype: torch.dtype) -> Any:
    module, info = spec.components[name].from_pretrained(
        layout.configs / name,
        dtype=dtype,
        variant=layout.variants[name],
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    absent = sorted(info["missing_keys"])
    if absent:  # the libraries would go on with random weights
        raise ModelIncompatible(f"{layout.configs / name} lacks {len(absent)} of its weights, such as {absent[0]}")
    return module


def _tokenizers(spec: FamilySpec, configs: Path) -> dict[str, Any]:
    names = [name for name in spec.components if name.startswith("tokenizer")]
    return {name: spec.components[name].from_pretrained(configs / name, local_files_only=True) for name in names}


def _scheduler(spec: FamilySpec, layout: Layout) -> Any:
    config = read_config(layout.configs / "scheduler" / "scheduler_config.json")
    if layout.single:
        file = inspect_weights(layout.single)
        check_checkpoint(spec, file)
        config = as_trained(config, spec, file, layout.configs)
    return spec.schedulers[config["_class_name"]].from_config(config)
