"""From a catalogue entry to real modules on their device.

Verified first, loaded second: no weight is read before every digest was compared. What is loaded as what is decided by
the family, never by a name in the model's files; nothing is unpickled, nothing downloaded, no code of a repository run.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.sizes import size_faults
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.models.adaptable import Slot, adapt
from darkroom.worker.models.configs import read_config, read_json
from darkroom.worker.models.device import Placement
from darkroom.worker.models.digests import Progress
from darkroom.worker.models.door import one_door, other_shapes
from darkroom.worker.models.families import FamilySpec, family
from darkroom.worker.models.families.base import beyond
from darkroom.worker.models.layout import PREVIEW_FILE, Layout
from darkroom.worker.models.memory import place
from darkroom.worker.models.naming import plainly_named, weight_stem
from darkroom.worker.models.previews import PreviewMap, read_map
from darkroom.worker.models.single_file import load_single_file
from darkroom.worker.models.soundness import check_finite, check_size, check_vae, fit_tokenizer
from darkroom.worker.models.sources import VerifiedModel, verify_model
from darkroom.worker.models.training import as_trained
from darkroom.worker.models.tuning import tune
from darkroom.worker.settings import Size, WorkerSettings


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate. `entry` offers the kinds that it is able to do.

    `components` hold diffusers' names; the scheduler among them is the model's own, a template that is never stepped.
    `revision` is the hub's commit or "local", `digests` the SHA-256 of every file that was used. `options` are the
    pipeline's own from `model_index.json`: hand them to `family.pipeline`. `preview` is the model's own map, if any.
    `slots`: the layers of text encoders and denoiser that can add LoRAs, by component.
    """

    entry: ModelEntry
    family: FamilySpec
    components: dict[str, Any]
    placement: Placement
    revision: str
    digests: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)
    preview: PreviewMap | None = None
    slots: Mapping[str, Sequence[Slot]] = field(default_factory=dict)


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
        scheduler = _scheduler(entry, verified)  # first, since it takes no time and may refuse the weights
        modules = _modules(entry, verified, placement)
        components = {**modules, **_tokenizers(entry, verified.layout, modules), "scheduler": scheduler}
        _check_family(spec, components, verified.layout)
        entry = _offering(entry, components, verified.layout)
        check_vae(verified.layout.configs / "vae" / "config.json", modules["vae"].config)
        preview = read_map(verified.layout.configs / PREVIEW_FILE)
        slots = _slots(spec, modules, placement)  # before hooks come between
        place(modules, placement)
        tune(components, placement, warm_sizes(entry, placement))
        if placement.device.type == "cuda":
            torch.cuda.synchronize(placement.device)  # the streams of service do not wait for this one
    index = verified.layout.index
    options = {name: index[name] for name in spec.options if name in index}
    return LoadedModel(entry, spec, components, placement, verified.revision, verified.digests, options, preview, slots)


def _slots(spec: FamilySpec, modules: dict[str, Any], placement: Placement) -> dict[str, list[Slot]]:
    """None where layers are fused: others run in place of those that a LoRA names."""
    return {} if "fuse" in placement.speedups else {name: adapt(modules[name]) for name in (*spec.encoders, "unet")}


def _check_family(spec: FamilySpec, components: dict[str, Any], layout: Layout) -> None:
    """The family knows its parts' configs by name, the layout where they lie. Raises ModelIncompatible."""
    try:
        spec.check(components)
    except ModelIncompatible as error:
        raise ModelIncompatible(f"{layout.configs}/{error.message}") from None


def _offering(entry: ModelEntry, components: dict[str, Any], layout: Layout) -> ModelEntry:
    """The entry with the kinds that the denoiser is made for. Raises ModelIncompatible where the entry names others."""
    refused = beyond(components)
    able = [kind for kind in entry.kinds if kind not in refused]
    if "kinds" in entry.model_fields_set and len(able) < len(entry.kinds):
        others = ", ".join(kind for kind in entry.kinds if kind in refused)
        raise ModelIncompatible(
            f"{layout.configs}/unet/config.json: a denoiser of 9 channels needs a mask, and does not do {others}",
            hint="correct `kinds` in the catalogue entry, or leave it out",
        )
    return entry.model_copy(update={"kinds": able}) if refused else entry


def _modules(entry: ModelEntry, verified: VerifiedModel, placement: Placement) -> dict[str, Any]:
    spec, layout = family(entry.family), verified.layout
    dtypes = {name: _dtype(spec, name, layout.configs, placement) for name in spec.modules}
    for name in spec.modules:
        path = layout.configs / name / "config.json"
        with one_door(entry.name, path):
            check_size(path, spec.components[name], verified.held(name))
    if layout.single:
        modules = load_single_file(entry.name, spec, layout.single, layout.configs, dtypes)
    else:
        modules = {}
        for name in spec.modules:
            with one_door(entry.name, layout.configs / name / "config.json"):
                modules[name] = _from_folder(spec, name, layout, dtypes[name])
    for name, module in modules.items():
        check_finite(module, verified.held(name))
    return {name: module.eval().requires_grad_(requires_grad=False) for name, module in modules.items()}


def _dtype(spec: FamilySpec, name: str, configs: Path, placement: Placement) -> torch.dtype:
    """The placement's, but float32 for a VAE that overflows in float16."""
    if not (name == "vae" and spec.upcasts_vae and placement.dtype == torch.float16):
        return placement.dtype
    upcast = read_json(configs / "vae" / "config.json").get("force_upcast", True)  # diffusers' own default
    return torch.float32 if upcast else placement.dtype


def _from_folder(spec: FamilySpec, name: str, layout: Layout, dtype: torch.dtype) -> Any:
    folder = layout.configs / name
    with ExitStack() as stack:
        if layout.variants[name] is not None:
            files = [file.removeprefix(f"{name}/") for file in layout.files if file.startswith(f"{name}/")]
            weights = [file for file in files if file != "config.json"]
            opened = stack.enter_context(plainly_named(folder, weights, weight_stem(spec, name)))
        else:
            opened = folder
        stack.enter_context(other_shapes(folder / "config.json"))
        module, info = spec.components[name].from_pretrained(
            opened, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    absent = sorted(info["missing_keys"])
    if absent:  # the libraries would go on with random weights
        raise ModelIncompatible(
            f"{folder / 'config.json'}: lacks {len(absent)} of its weights in the files beside it, such as {absent[0]}"
        )
    return module


def _tokenizers(entry: ModelEntry, layout: Layout, modules: dict[str, Any]) -> dict[str, Any]:
    spec, found = family(entry.family), {}
    for name in [name for name in spec.components if name.startswith("tokenizer")]:
        folder = layout.configs / name
        files = ", ".join(sorted(path.name for path in layout.files.values() if path.parent == folder))
        with one_door(entry.name, f"{folder} ({files})"):
            found[name] = spec.components[name].from_pretrained(folder, local_files_only=True)
            fit_tokenizer(found[name], folder, modules[name.replace("tokenizer", "text_encoder")].config)
    return found


def _scheduler(entry: ModelEntry, verified: VerifiedModel) -> Any:
    spec, layout = family(entry.family), verified.layout
    path = layout.configs / "scheduler" / "scheduler_config.json"
    config = read_config(path)
    if layout.single:
        config = as_trained(config, spec, verified.headers[layout.single.name], layout.configs)
    with one_door(entry.name, path):
        return spec.schedulers[config["_class_name"]].from_config(with_changes(config, entry.scheduler_config))


def with_changes(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's config with these values over its own, as chosen ones: other schedulers take them over, too."""
    unchosen = [name for name in config.get("_use_default_values", ()) if name not in changes]
    return {**config, **changes, **({"_use_default_values": unchosen} if unchosen else {})}
