"""Small pictures of latents in mid-generation: a linear map to RGB, no VAE."""

import io
from pathlib import Path
from typing import Annotated, Any

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom.tasks.catalogue import Family
from darkroom.worker.errors import ModelCorrupt

MAX_SIDE = 256  # pixels
MAX_BYTES = 10_000

Row = Annotated[list[float], Field(min_length=3, max_length=3)]


class PreviewMap(BaseModel):
    """Latents, as they are denoised, to RGB in 0…1: (4, 3) `factors` and an `offset` (3,)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    factors: Annotated[list[Row], Field(min_length=4, max_length=4)]
    offset: Row


# Of the families, in the VAE's scaled space.
# SDXL: T. A. Vass, "Explaining the SDXL latent space" (Hugging Face blog, 2023), also in diffusers' guide to pipeline
# callbacks, there in 0…255.
_SDXL = PreviewMap(
    factors=[[0.235, 0.235, 0.235], [-0.235, -0.02, 0.039], [0.098, 0.059, -0.02], [-0.275, -0.196, -0.137]],
    offset=[0.588, 0.549, 0.51],
)
# Stable Diffusion 1: K. Turner, "Decoding latents to RGB without upscaling" (discuss.huggingface.co/t/23204), -1…1.
_SD = PreviewMap(
    factors=[[0.149, 0.104, 0.104], [0.093, 0.143, 0.086], [-0.079, 0.094, 0.132], [-0.092, -0.136, -0.237]],
    offset=[0.5, 0.5, 0.5],
)
_FAMILIES: dict[Family, PreviewMap] = {"sdxl": _SDXL, "playground": _SDXL, "sd": _SD, "sdxl-refiner": _SDXL}
_SDXL_SCALING = 0.13025


class Snapshot:
    """The latents (1, 4, h/8, w/8) of a step; on a GPU on their way to the host, and nobody waits for them."""

    def __init__(self, latents: torch.Tensor) -> None:
        self.latents = latents[:1].detach()
        self._event = None
        if self.latents.is_cuda:
            there = torch.empty(self.latents.shape, dtype=self.latents.dtype, pin_memory=True)
            self.latents = there.copy_(self.latents, non_blocking=True)
            self._event = torch.cuda.current_stream(latents.device).record_event()

    @property
    def here(self) -> bool:
        """Whether the latents can be read."""
        return self._event is None or self._event.query()


def read_map(path: Path) -> PreviewMap | None:
    """A model's own map from its `preview.json`; None where it has none. Raises ModelCorrupt."""
    try:
        return PreviewMap.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ModelCorrupt(f"{path}: {'.'.join(map(str, fault['loc']))} {fault['msg']}") from None


def preview_jpeg(latents: torch.Tensor, family: Family, vae_config: Any, own: PreviewMap | None = None) -> bytes:
    """A JPEG of latents (1, 4, h/8, w/8): sides up to MAX_SIDE pixels, at most MAX_BYTES bytes.

    By the model's own map, or else by its family's.

    Between steps some schedulers' latents are much larger than a picture's, by their noise; those are scaled down.
    """
    found = latents[:1].detach().to("cpu", torch.float32)
    found = found / found.std().clamp(min=1.0)
    found, used = (found, own) if own else (_scaled(found, vae_config), _FAMILIES[family])
    rgb = torch.einsum("chw,cr->hwr", found[0], torch.tensor(used.factors)) + torch.tensor(used.offset)
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
