"""LoRAs by peft: put on a model, and written as diffusers writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open

#: The denoiser's layers that a LoRA is put on, by the ends of their names: every linear one that hears words or time.
LINEARS = (
    "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "time_emb_proj",
)  # fmt: skip
#: The same of CLIP's text encoders.
CLIP = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def add_lora(module: Any, rank: int, layers: tuple[str, ...], seed: int) -> None:
    """Freezes a module of diffusers or transformers and puts a LoRA on it that does nothing yet; alpha is the rank."""
    torch.manual_seed(seed)
    module.requires_grad_(requires_grad=False)
    module.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers)))


def save_lora(parts: Mapping[str, Any], path: Path) -> None:
    """Writes the LoRAs of `unet`, `text_encoder` and `text_encoder_2`, those that there are, in float16."""
    layers, notes = {}, {}
    for name, module in parts.items():
        found = get_peft_model_state_dict(module)
        layers[f"{name}_lora_layers"] = {key: value.half().cpu() for key, value in found.items()}
        notes[f"{name}_lora_adapter_metadata"] = module.peft_config["default"].to_dict()
    StableDiffusionXLPipeline.save_lora_weights(path.parent, **layers, **notes, weight_name=path.name)
    path.chmod(0o644)


def described(path: Path) -> tuple[int, list[str]]:
    """A file's rank, and the parts of the model that it has layers for."""
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        downs = [file.get_slice(name).get_shape() for name in names if name.endswith("lora_A.weight")]
    return max(shape[0] for shape in downs), sorted({name.split(".")[0] for name in names})
