"""The trained parts as a model folder in the diffusers layout: float16 safetensors, configs, tokenizers."""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from darkroom.worker.models.tiny_tokenizer import write_tokenizer
from ops.starter.captions import words
from ops.starter.models import make_scheduler
from ops.starter.pictures import drawn_scene, to_tensor
from ops.starter.reader import Reader

_CLASSES = {
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def export(vae: AutoencoderKL, reader: Reader, unet: UNet2DConditionModel, folder: Path, rows: int = 256) -> None:
    """Writes the whole model into `folder`, and `preview.json` from so many `rows` of drawn pictures.

    The modules are float16 afterwards.
    """
    preview = preview_factors(vae, rows, seed=11)
    parts = {"text_encoder": reader.first, "text_encoder_2": reader.second, "unet": unet, "vae": vae}
    for name, part in parts.items():
        part.half().save_pretrained(folder / name, safe_serialization=True)
        as_anybodys(folder / name)
    make_scheduler().save_pretrained(folder / "scheduler")
    for name in ("tokenizer", "tokenizer_2"):
        write_tokenizer(folder / name, words())
    write_json(folder / "preview.json", preview)
    index = {"_class_name": "StableDiffusionXLPipeline", **_CLASSES, "force_zeros_for_empty_prompt": True}
    write_json(folder / "model_index.json", index)


@torch.no_grad()
def preview_factors(vae: AutoencoderKL, rows: int, seed: int) -> dict[str, list[float] | list[list[float]]]:
    """Latents to RGB in 0…1 by least squares over drawn pictures: (4, 3) `factors` and (3,) `offset`."""
    pictures = torch.cat([to_tensor(drawn_scene(seed, row)[1][None]) for row in range(rows)])
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in torch.split(pictures, 32)])
    values = latents.permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    colours = torch.nn.functional.avg_pool2d(pictures / 2 + 0.5, 8).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    solved = np.linalg.lstsq(np.c_[values, np.ones(len(values))], colours, rcond=None)[0].round(4)
    return {"factors": solved[:4].tolist(), "offset": solved[4].tolist()}


def as_anybodys(folder: Path) -> None:
    """Without the path of this machine that diffusers notes, and readable to all users, as nothing secret is in it."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)
    write_json(folder / "config.json", config)
    for path in folder.iterdir():
        path.chmod(0o644)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
