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
from darkroom.worker.families import FamilySpec


def load_single_file(spec: FamilySpec, path: Path, configs: Path, dtypes: dict[str, torch.dtype]) -> dict[str, Any]:
    """The family's modules by name, on the CPU, in `dtypes`. Raises ModelIncompatible where weights are missing."""
    checkpoint = load_file(path)
    return {name: _module(spec, name, checkpoint, configs, dtypes[name]) for name in spec.modules}


def _module(spec: FamilySpec, name: str, checkpoint: dict[str, torch.Tensor], configs: Path, dtype: torch.dtype) -> Any:
    load = _text_encoder if name in spec.encoders else _of_diffusers
    try:
        module = load(spec.components[name], dict(checkpoint), name, str(configs), dtype)  # converters empty the dict
    except SingleFileComponentError:
        raise ModelIncompatible(f"{name}: the file has no weights for it") from None
    empty = [key for key, value in module.state_dict().items() if value.device.type == "meta"]
    if empty:
        raise ModelIncompatible(f"{name}: the file lacks {len(empty)} of its weights, such as {empty[0]}")
    return module


def _text_encoder(loaded_as: Any, tensors: dict[str, torch.Tensor], name: str, configs: str, dtype: torch.dtype) -> Any:
    return create_diffusers_clip_model_from_ldm(
        loaded_as, tensors, subfolder=name, config=configs, torch_dtype=dtype, local_files_only=True
    )


def _of_diffusers(loaded_as: Any, tensors: dict[str, torch.Tensor], name: str, configs: str, dtype: torch.dtype) -> Any:
    return loaded_as.from_single_file(tensors, config=configs, subfolder=name, torch_dtype=dtype, local_files_only=True)
