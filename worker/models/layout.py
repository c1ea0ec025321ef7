"""Which files a model consists of: exactly those that loading would open, found without opening a weight."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.worker.errors import ModelIncompatible, ModelMissing, ModelUnsafe
from darkroom.worker.models.configs import check_class, read_config, read_index, read_json, read_text
from darkroom.worker.models.families import FamilySpec
from darkroom.worker.models.naming import PICKLES, find_weights, of_diffusers, weight_stem
from darkroom.worker.models.opening import trouble

#: How latents look, which a model may bring (`darkroom.worker.models.previews`).
PREVIEW_FILE = "preview.json"

#: Of a training; tables of that length are made before anything else is known of a scheduler. The families have 1,000.
MOST_TIMESTEPS = 100_000

TOKENIZER_FILES = (".json", ".txt", ".model", ".jinja")


@dataclass(frozen=True)
class Layout:
    """One model on disk. `files` are named relative to the model; `variants` say per component which files it has."""

    configs: Path
    index: dict[str, Any]
    files: dict[str, Path]
    weights: tuple[str, ...]
    variants: dict[str, str | None]
    single: Path | None = None


def folder_layout(spec: FamilySpec, root: Path, variant: str | None = None) -> Layout:
    """A folder in the diffusers layout. Raises ModelMissing, ModelUnsafe, ModelIncompatible or ModelCorrupt."""
    files, index = _configs(spec, root)
    if (root / PREVIEW_FILE).is_file():
        files[PREVIEW_FILE] = root / PREVIEW_FILE
    weights: list[str] = []
    variants: dict[str, str | None] = {}
    for name in spec.modules:
        variants[name], found = find_weights(root / name, weight_stem(spec, name), variant)
        weights += [f"{name}/{file}" for file in found if file.endswith(".safetensors")]
        files |= {f"{name}/{file}": root / name / file for file in found}
    return Layout(root, index, files, tuple(weights), variants)


def file_layout(spec: FamilySpec, path: Path, configs: Path) -> Layout:
    """One file with all weights, in the key layout of the original release, and a folder with configs and tokenizers.

    The folder is not optional: without it a loader guesses the architecture and downloads configs.
    """
    if path.suffix in PICKLES:
        raise ModelUnsafe(f"{path}: {path.suffix} files can run code when loaded")
    if path.suffix != ".safetensors":
        raise ModelIncompatible(f"{path}: not a .safetensors file", hint="check `path` in the catalogue entry")
    if why := trouble(path):
        raise ModelMissing(f"{path} {why}", hint="check `path` in the catalogue entry")
    if not (configs / "model_index.json").is_file():
        raise ModelMissing(
            f"{path}: {configs} holds no configs for it",
            hint="`config` names a folder in the diffusers layout with model_index.json, the config of every part and "
            "the tokenizers; its weights are not needed, so a copy of the base model without them will do",
        )
    files, index = _configs(spec, configs)
    named = {f"config/{name}": file for name, file in files.items()}
    return Layout(configs, index, {path.name: path, **named}, (path.name,), {}, path)


def _configs(spec: FamilySpec, root: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    if not root.is_dir():
        raise ModelMissing(f"the folder {root} is not there")
    index = read_index(root / "model_index.json", spec)
    files = {"model_index.json": root / "model_index.json"}
    for name in (*spec.components, "scheduler"):
        folder = root / name
        if not folder.is_dir():
            raise ModelMissing(f"{folder} is not there")
        files |= {f"{name}/{path.relative_to(folder)}": path for path in _part_configs(spec, name, folder)}
    return files, index


def _part_configs(spec: FamilySpec, name: str, folder: Path) -> Iterator[Path]:
    if (folder / "adapter_config.json").exists():
        raise ModelUnsafe(
            f"{folder}: adapter_config.json would load another model", hint="use a copy of the model without it"
        )
    if name.startswith("tokenizer"):
        yield from _tokenizer_configs(folder)
        return
    path = folder / ("scheduler_config.json" if name == "scheduler" else "config.json")
    config = read_config(path)
    if name == "scheduler":
        _check_scheduler(path, config, spec)
    elif of_diffusers(spec.components[name]):
        check_class(path, config, spec.components[name])
    yield path


def _tokenizer_configs(folder: Path) -> Iterator[Path]:
    """All its data files: which of them a tokenizer reads depends on which there are."""
    read_config(folder / "tokenizer_config.json")
    lost = [file for file in ("vocab.json", "merges.txt") if not (folder / file).is_file()]
    if lost and not (folder / "tokenizer.json").is_file():
        raise ModelMissing(f"{folder / lost[0]} is not there, and no tokenizer.json in its place")
    for path in sorted(folder.rglob("*")):
        if path.suffix in TOKENIZER_FILES and path.is_file():
            if path.suffix == ".json":
                read_json(path)
            elif path.suffix == ".txt":
                read_text(path)
            yield path


def _check_scheduler(path: Path, config: dict[str, Any], spec: FamilySpec) -> None:
    if config.get("_class_name") not in spec.schedulers:
        known = ", ".join(spec.schedulers)
        raise ModelIncompatible(f"{path}: a {config.get('_class_name')}; the family {spec.name} takes {known}")
    count = config.get("num_train_timesteps", 1000)
    if type(count) is not int or not 0 < count <= MOST_TIMESTEPS:
        raise ModelIncompatible(
            f"{path}: num_train_timesteps is {count!r}, no number from 1 to {MOST_TIMESTEPS}",
            hint="restore the config that belongs to the weights",
        )
