"""A LoRA of one layer, as small as a file of one can be."""

from pathlib import Path

import torch
from safetensors.torch import save_file

LAYER = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"


def small_lora(path: Path, rank: int = 4, seed: int = 0) -> Path:
    """As sd-scripts writes it, for the tiny SDXL; `seed` tells files apart."""
    generator = torch.Generator().manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{LAYER}.lora_down.weight": torch.randn(rank, 32, generator=generator),
        f"{LAYER}.lora_up.weight": torch.randn(32, rank, generator=generator),
        f"{LAYER}.alpha": torch.tensor(float(rank)),
    }
    save_file(tensors, path, {"ss_output_name": path.stem, "modelspec.title": "A pen"})
    return path
