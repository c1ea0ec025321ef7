"""What a picture costs, counted, and how fast the machine multiplies, measured."""

import json
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch.utils.flop_counter import FlopCounterMode

PRODUCTS = 9


def picture_tflop(folder: Path, width: int, height: int, steps: int) -> float:
    """TFLOP of one guided picture: two rows a denoiser call, and the VAE's decoder; text encoders are left out."""
    calls = denoiser_calls(folder, steps)
    return 2 * calls * denoiser_tflop(folder, width, height) + decoder_tflop(folder, width, height)


def denoiser_calls(folder: Path, steps: int) -> int:
    """Some schedulers call the denoiser more than once a step."""
    config = _config(folder / "scheduler" / "scheduler_config.json")
    scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    scheduler.set_timesteps(steps)
    return len(scheduler.timesteps)


@cache
def denoiser_tflop(folder: Path, width: int, height: int) -> float:
    """Of one row, attention included; counted without computing anything."""
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(_config(folder / "unet" / "config.json"))
        sample = torch.empty(1, unet.config.in_channels, height // 8, width // 8)
        text = torch.empty(1, 77, unet.config.cross_attention_dim)
        added = _added(unet.config)
        return _count(lambda: unet(sample, torch.empty(()), text, added_cond_kwargs=added))


@cache
def decoder_tflop(folder: Path, width: int, height: int) -> float:
    """Of one picture."""
    with torch.device("meta"):
        vae = diffusers.AutoencoderKL.from_config(_config(folder / "vae" / "config.json"))
        latents = torch.empty(1, vae.config.latent_channels, height // 8, width // 8)
        return _count(lambda: vae.decode(latents))


def matmul_tflops(device: str, dtype: torch.dtype) -> float:
    """TFLOP/s of a square matrix product: the median of several, on random numbers (zeros run faster)."""
    side = 8192 if device.startswith("cuda") else 2048
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    wait: Callable[[], None] = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    for _ in range(3):
        left @ right
    seconds = []
    for _ in range(PRODUCTS):
        wait()
        began = time.perf_counter()
        left @ right
        wait()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(seconds) / 1e12


def _added(config: Any) -> dict[str, torch.Tensor] | None:
    if config.addition_embed_type != "text_time":
        return None
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    return {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, 6)}


def _count(call: Callable[[], object]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops()) / 1e12


def _config(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found
