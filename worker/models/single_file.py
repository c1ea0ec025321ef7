"""All weights of a model out of one file in the key layout of the original release.

diffusers renames the keys. It is only ever handed tensors and a folder: given a path or no folder, its loader would
choose the file format by the name, or ask the hub for configs.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import SingleFileComponentError, create_diffusers_clip_model_from_ldm
from safetensors.torch import load_file

from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.models.door import one_door, other_shapes
from darkroom.worker.models.families import FamilySpec


def load_single_file(
    model: str, spec: FamilySpec, path: Path, configs: Path, dtypes: dict[str, torch.dtype]
) -> dict[str, Any]:
    """The family's modules by name, on the CPU, in `dtypes`. Raises a ModelError; `model` is its name."""
    checkpoint = load_file(path)
    modules = {}
    for name in spec.modules:
        with one_door(model, config := configs / name / "config.json"), other_shapes(config):
            modules[name] = _module(spec, name, path, checkpoint, configs).to(dtypes[name])
    return modules


def _module(spec: FamilySpec, name: str, path: Path, checkpoint: dict[str, torch.Tensor], configs: Path) -> Any:
    load = _text_encoder if name in spec.encoders else _of_diffusers
    try:
        module = load(spec.components[name], dict(checkpoint), name, str(configs))  # converters empty the dict
        _check_complete(module)
    except SingleFileComponentError:
        raise ModelIncompatible(f"{path}: no weights for the {name}") from None
    except NotImplementedError:
        raise ModelIncompatible(f"{path}: it lacks some of the weights of the {name}") from None
    return module


def _check_complete(module: torch.nn.Module) -> None:
    """As torch does where it is asked to move a parameter that got no value."""
    if any(parameter.is_meta for parameter in module.parameters()):
        raise NotImplementedError


def _text_encoder(loaded_as: Any, tensors: dict[str, torch.Tensor], name: str, configs: str) -> Any:
    return create_diffusers_clip_model_from_ldm(
        loaded_as, tensors, subfolder=name, config=configs, local_files_only=True
    )


def _of_diffusers(loaded_as: Any, tensors: dict[str, torch.Tensor], name: str, configs: str) -> Any:
    return loaded_as.from_single_file(tensors, config=configs, subfolder=name, local_files_only=True)
