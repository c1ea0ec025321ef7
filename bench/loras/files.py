"""LoRA files of random numbers, as sd-scripts writes them: as much work as trained ones, and hardly another picture."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from darkroom.tasks.adapters import LoraEntry
from darkroom.tasks.sources import WeightsFileSource
from darkroom.worker.adapters.library import Library

DRAWN = 0.02  # of standard deviation
LAYERS = (torch.nn.Linear, torch.nn.Conv2d)

Which = Callable[[str], bool]


def attention(path: str) -> bool:
    """What the first LoRAs had."""
    return ".attn1." in path or ".attn2." in path


def transformers(path: str) -> bool:
    """What sd-scripts trains unless told otherwise: attention, feed-forward, and the projections around them."""
    return ".attentions." in path


def everything(path: str) -> bool:
    """With sd-scripts' `conv_dim` also residual blocks and what changes sizes."""
    return any(name in path for name in (".attentions.", ".resnets.", "samplers."))


def write_lora(path: Path, denoiser: Any, which: Which, rank: int, seed: int, drawn_of: float = DRAWN) -> Path:
    """For these layers of the denoiser, of whose parameters only shapes are needed; `drawn_of`: standard deviation."""
    draw = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return (drawn_of * torch.randn(shape, generator=draw)).half()

    tensors = {}
    for name, layer in denoiser.named_modules():
        if not isinstance(layer, LAYERS) or not which(name):
            continue
        outputs, *inputs = layer.weight.shape
        stem = f"lora_unet_{name.replace('.', '_')}"
        tensors[f"{stem}.lora_down.weight"] = drawn(rank, *inputs)
        tensors[f"{stem}.lora_up.weight"] = drawn(outputs, rank, *[1] * (len(inputs) - 1))
        tensors[f"{stem}.alpha"] = torch.tensor(float(rank))
    save_file(tensors, path)
    return path


def entry_of(path: Path) -> LoraEntry:
    """The catalogue's, by the file's name."""
    return LoraEntry(name=path.stem, families=["sdxl", "sd"], source=WeightsFileSource(path=path))


def add_lora(library: Library, path: Path) -> str:
    """Makes it known by the file's name."""
    library.add(entry_of(path), path, hashlib.sha256(path.read_bytes()).hexdigest())
    return path.stem
