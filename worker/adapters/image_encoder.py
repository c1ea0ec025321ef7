"""CLIP's image encoder, loaded as safely as a model's parts, and what it is shown of a picture."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from darkroom.worker.adapters.door import adapter_door
from darkroom.worker.errors import AdapterIncompatible, AdapterMissing
from darkroom.worker.models.configs import check_extent, read_config, read_json
from darkroom.worker.models.door import one_door, other_shapes
from darkroom.worker.models.naming import find_weights, plainly_named
from darkroom.worker.models.soundness import check_finite, check_size
from darkroom.worker.models.weights import check_kinds, inspect_weights

_PROCESSOR, _STEM = "preprocessor_config.json", "model"
#: CLIP's, which a folder without a preprocessor's config means (A. Radford et al., 2021, and its code's transform).
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_RESTORE = "restore the files of the image encoder"
#: More than so many times as long as wide, a picture's ends are cut off before it is scaled: only its middle is looked
#: at, and a line of pixels would be scaled to more than memory holds.
_LONGEST = 4


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """CLIP's own steps, by Pillow: the shorter side to `side` (bicubic), the middle, 0…1, mean and deviation.

    Like transformers' `CLIPImageProcessor` without torchvision; which of its two ways a machine takes, and so the bits,
    would depend on what else is installed.
    """

    side: int
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    def __call__(self, picture: Image.Image) -> Tensor:
        """Pixels (1, 3, side, side) float32 of a picture of any size."""
        rgb = _middle(picture.convert("RGB"))
        width, height = rgb.size
        short = min(width, height)
        size = (int(width * self.side / short), int(height * self.side / short))
        scaled = rgb.resize(size, Image.Resampling.BICUBIC)
        left, top = (size[0] - self.side) // 2, (size[1] - self.side) // 2
        cut = np.asarray(scaled.crop((left, top, left + self.side, top + self.side)))
        unit = (cut * (1 / 255)).astype(np.float32)
        even = (unit - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(even.transpose(2, 0, 1)[None].copy())


@dataclass(frozen=True, slots=True)
class ImageEncoder:
    """The module, and what prepares pictures for it."""

    module: Any
    preprocessor: Preprocessor


def encoder_files(folder: Path) -> dict[str, Path]:
    """Every file that loading opens, by its name in the folder. Raises an AdapterError."""
    if not folder.is_dir():
        raise AdapterMissing(
            f"{folder} is not there: an IP-Adapter works with the image encoder that it was trained with",
            hint="put the encoder's folder there (config.json and model.safetensors), or correct its path",
        )
    with adapter_door(_RESTORE):
        read_config(folder / "config.json")
        _, found = find_weights(folder, _STEM, None)
    named = ["config.json", *found, *([_PROCESSOR] if (folder / _PROCESSOR).is_file() else [])]
    return {name: folder / name for name in named}


def load_encoder(folder: Path, dtype: torch.dtype) -> ImageEncoder:
    """On the CPU, for no training.

    Raises AdapterMissing, AdapterUnsafe, AdapterCorrupt or AdapterIncompatible naming the file, and OutOfMemory.
    """
    files, path = encoder_files(folder), folder / "config.json"
    weights = [name for name in files if name not in ("config.json", _PROCESSOR)]
    with adapter_door(_RESTORE):
        _check_kind(path)
        held = [inspect_weights(files[name]) for name in weights if name.endswith(".safetensors")]
        for file in held:
            check_kinds(file)
        check_extent(path, read_config(path), sum(len(file.tensors) for file in held))
        with one_door(folder.name, path):
            check_size(path, CLIPVisionModelWithProjection, held)
            module = _load(folder, weights, dtype)
        check_finite(module, held)
        preprocessor = _preprocessor(folder / _PROCESSOR, module.config.image_size)
    return ImageEncoder(module.eval().requires_grad_(requires_grad=False), preprocessor)


def _check_kind(path: Path) -> None:
    kind = read_config(path).get("model_type")
    if kind != "clip_vision_model":
        raise AdapterIncompatible(
            f"{path}: a {kind}, where CLIP's image encoder (clip_vision_model) is needed",
            hint="name the folder of the CLIPVisionModelWithProjection that belongs to the IP-Adapter",
        )


def _load(folder: Path, weights: list[str], dtype: torch.dtype) -> Any:
    with ExitStack() as stack:
        opened = stack.enter_context(plainly_named(folder, weights, _STEM))
        stack.enter_context(other_shapes(folder / "config.json"))
        module, info = CLIPVisionModelWithProjection.from_pretrained(
            opened, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    absent = sorted(info["missing_keys"])
    if absent:
        raise AdapterIncompatible(
            f"{folder / 'config.json'}: lacks {len(absent)} of its weights in the files beside it, such as {absent[0]}"
        )
    return module


def _preprocessor(path: Path, side: int) -> Preprocessor:
    """Raises AdapterIncompatible for steps that are not CLIP's."""
    config = read_json(path) if path.is_file() else {}
    steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
    left_out = [step for step in steps if not config.get(step, True)]
    if left_out or config.get("resample", 3) != Image.Resampling.BICUBIC:
        raise _misfit(path, f"{(left_out or ['resample'])[0]} is not as CLIP's image encoder needs it")
    for name in ("size", "crop_size"):
        given = config.get(name, side)
        sides = list(given.values()) if isinstance(given, Mapping) else [given]
        if any(one != side for one in sides):
            raise _misfit(path, f"{name} is {given}, and the encoder takes {side} pixels a side")
    mean, std = _colours(path, config, "image_mean", _MEAN), _colours(path, config, "image_std", _STD)
    if min(std) <= 0:
        raise _misfit(path, f"image_std is {list(std)}, not three positive numbers")
    return Preprocessor(side, mean, std)


def _colours(path: Path, config: dict[str, Any], name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    given = config.get(name, default)
    right = isinstance(given, list | tuple) and len(given) == 3 and all(type(one) in (int, float) for one in given)
    if not right or not np.isfinite(given).all():
        raise _misfit(path, f"{name} is {given}, not three numbers")
    return tuple(float(one) for one in given)


def _misfit(path: Path, message: str) -> AdapterIncompatible:
    return AdapterIncompatible(f"{path}: {message}", hint=_RESTORE)


def _middle(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    most = _LONGEST * min(width, height)
    across, down = min(width, most), min(height, most)
    left, top = (width - across) // 2, (height - down) // 2
    return picture.crop((left, top, left + across, top + down))
