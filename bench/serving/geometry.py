"""Models of the real ones' full size with random weights: as much work, without a download.

Sizes are those of the published configs of SDXL base 1.0 and Stable Diffusion 1.5.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from darkroom.tasks.catalogue import Family
from darkroom.worker.models.tiny_tokenizer import vocabulary_size, write_tokenizer

_NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}


@dataclass(frozen=True)
class Geometry:
    """Configs of the parts; `texts` of one text encoder or of SDXL's two."""

    family: Family
    unet: dict[str, Any]
    vae: dict[str, Any]
    texts: tuple[dict[str, Any], ...]


_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_CLIP_L = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
           "projection_dim": 768, "hidden_act": "quick_gelu", "vocab_size": 49408}  # fmt: skip
_CLIP_G = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 20, "intermediate_size": 5120,
           "projection_dim": 1280, "hidden_act": "gelu", "vocab_size": 49408}  # fmt: skip

SDXL = Geometry(
    family="sdxl",
    unet={
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    vae={**_VAE, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
    texts=(_CLIP_L, _CLIP_G),
)

SD15 = Geometry(
    family="sd",
    unet={
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    },
    vae={**_VAE, "sample_size": 512, "scaling_factor": 0.18215},
    texts=(_CLIP_L,),
)


def write_random(geometry: Geometry, folder: Path, device: str, dtype: torch.dtype) -> None:
    """Writes the model into `folder`, complete or not at all; its weights are made on `device`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        _pipeline(geometry, unfinished / "tokenizer", device, dtype).save_pretrained(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished)
        raise


def _pipeline(geometry: Geometry, tokenizer: Path, device: str, dtype: torch.dtype) -> Any:
    write_tokenizer(tokenizer)
    read = CLIPTokenizer.from_pretrained(tokenizer)
    unet, vae, texts = _modules(geometry, device, dtype)
    if geometry.family == "sd":
        scheduler = PNDMScheduler(**_NOISE, skip_prk_steps=True, set_alpha_to_one=False)
        return StableDiffusionPipeline(
            vae, texts[0], read, unet, scheduler, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    scheduler = EulerDiscreteScheduler(**_NOISE, timestep_spacing="leading")
    return StableDiffusionXLPipeline(vae, texts[0], texts[1], read, read, unet, scheduler, add_watermarker=False)


def random_denoiser(geometry: Geometry, device: str, dtype: torch.dtype) -> UNet2DConditionModel:
    """The denoiser alone, ready to be called."""
    with _drawn_on(device, dtype):
        return UNet2DConditionModel(**geometry.unet).eval().requires_grad_(requires_grad=False)


def _modules(geometry: Geometry, device: str, dtype: torch.dtype) -> tuple[Any, Any, list[Any]]:
    with _drawn_on(device, dtype):
        classes = (CLIPTextModel, CLIPTextModelWithProjection)
        texts = [kind(_text(config)) for kind, config in zip(classes, geometry.texts, strict=False)]
        return UNet2DConditionModel(**geometry.unet), AutoencoderKL(**geometry.vae), texts


@contextmanager
def _drawn_on(device: str, dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.manual_seed(0)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def _text(config: dict[str, Any]) -> CLIPTextConfig:
    end = vocabulary_size() - 1  # where the tokenizer's own vocabulary ends; the embedding is as long as the real one
    return CLIPTextConfig(
        **config, max_position_embeddings=77, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end
    )
