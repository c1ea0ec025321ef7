"""Small pictures of latents in mid-generation: a linear map to RGB, no VAE."""

import io
from typing import Any

import torch
from PIL import Image

from darkroom.tasks.catalogue import Family

MAX_SIDE = 256  # pixels
MAX_BYTES = 10_000

# Latents in the VAE's scaled space to RGB in 0…1: (4, 3) factors and an offset.
# SDXL: T. A. Vass, "Explaining the SDXL latent space" (Hugging Face blog, 2023), also in diffusers' guide to pipeline
# callbacks, there in 0…255.
_SDXL = (
    torch.tensor([[60.0, 60, 60], [-60, -5, 10], [25, 15, -5], [-70, -50, -35]]) / 255,
    torch.tensor([150.0, 140, 130]) / 255,
)
# Stable Diffusion 1: K. Turner, "Decoding latents to RGB without upscaling" (discuss.huggingface.co/t/23204), -1…1.
_SD = (
    torch.tensor([[0.298, 0.207, 0.208], [0.187, 0.286, 0.173], [-0.158, 0.189, 0.264], [-0.184, -0.271, -0.473]]) / 2,
    torch.tensor([0.5, 0.5, 0.5]),
)
_FACTORS: dict[Family, tuple[torch.Tensor, torch.Tensor]] = {"sdxl": _SDXL, "playground": _SDXL, "sd": _SD}
_SDXL_SCALING = 0.13025


def preview_jpeg(latents: torch.Tensor, family: Family, vae_config: Any) -> bytes:
    """A JPEG of latents (1, 4, h/8, w/8): sides up to MAX_SIDE pixels, at most MAX_BYTES bytes.

    Between steps some schedulers' latents are much larger than a picture's, by their noise; those are scaled down.
    """
    found = latents[:1].detach().to("cpu", torch.float32)
    found = found / found.std().clamp(min=1.0)
    factors, offset = _FACTORS[family]
    rgb = torch.einsum("chw,cr->hwr", _scaled(found, vae_config)[0], factors) + offset
    pixels = (rgb.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
    return _small_jpeg(Image.fromarray(pixels.numpy()))


def _scaled(latents: torch.Tensor, vae_config: Any) -> torch.Tensor:
    """Playground's latents are normalised by mean and deviation; its VAE is SDXL's, whose factors then fit."""
    mean, std = vae_config.get("latents_mean"), vae_config.get("latents_std")
    if mean is None or std is None:
        return latents
    shape = (1, -1, 1, 1)
    raw: torch.Tensor = latents * torch.tensor(std).view(shape) / vae_config.scaling_factor + torch.tensor(mean).view(
        shape
    )
    return raw * _SDXL_SCALING


def _small_jpeg(image: Image.Image) -> bytes:
    scale = min(MAX_SIDE / max(image.size), 4.0)
    width, height = (max(1, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    for quality in (75, 50, 30):
        data = _jpeg(image, quality)
        if len(data) <= MAX_BYTES:
            return data
    return _jpeg(image.reduce(2), 30)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()
