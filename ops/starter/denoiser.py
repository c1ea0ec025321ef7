"""The third stage: the denoiser, on latents; it listens to the text encoders as they are."""

from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as nnf

from ops.starter.captions import caption
from ops.starter.models import make_scheduler, make_unet
from ops.starter.reader import Reader
from ops.starter.scenes import SIDE, Scene
from ops.starter.training import Loss, Run, Stage, device, half

DENOISER = Stage("denoiser", steps=12_000, rate=1e-3, warmup=300, average=0.999, weight_decay=0.01, seed=2)
DETAIL = Stage("denoiser-detail", steps=3_400, rate=4e-4, warmup=100, average=0.999, weight_decay=0.01, seed=5)
_ROWS = 32
_UNCONDITIONAL = 0.1  # of the rows


def train_denoiser(scenes: list[Scene], latents: Tensor, reader: Reader, folder: Path) -> UNet2DConditionModel:
    """Trains it, or goes on where a checkpoint in `folder` left off. `latents` are the scenes' (rows, 4, 16, 16)."""
    torch.manual_seed(DENOISER.seed)
    unet, noise_left = make_unet(), make_scheduler().alphas_cumprod

    def loss(_: int, rng: np.random.Generator) -> Tensor:
        rows = rng.integers(len(scenes), size=_ROWS)
        heard = _heard(reader, [scenes[int(row)] for row in rows], rng)
        times = spread(_ROWS, 2.0, len(noise_left))
        return v_loss(unet, latents[torch.from_numpy(rows)].to(device()), *heard, noise_left, times)

    return _trained(DENOISER, unet, loss, folder)


def train_detail(
    unet: UNet2DConditionModel, scenes: list[Scene], latents: Tensor, reader: Reader, folder: Path
) -> UNet2DConditionModel:
    """Trains it on, with other pictures: the first stage hardly saw little noise, where edges are drawn, nor pairs.

    Of its steps 9% had less noise than time 300 of 1,000, and of its pictures 35% showed two things.
    """
    noise_left = make_scheduler().alphas_cumprod
    singles, pairs = (np.array([row for row, s in enumerate(scenes) if len(s.things) == many]) for many in (1, 2))

    def loss(_: int, rng: np.random.Generator) -> Tensor:
        rows = np.concatenate([rng.choice(some, size=_ROWS // 2) for some in (singles, pairs)])
        heard = _heard(reader, [scenes[int(row)] for row in rows], rng)
        times = spread(_ROWS, 1.2, len(noise_left))
        return v_loss(unet, latents[torch.from_numpy(rows)].to(device()), *heard, noise_left, times)

    return _trained(DETAIL, unet, loss, folder)


def _trained(stage: Stage, unet: UNet2DConditionModel, loss: Loss, folder: Path) -> UNet2DConditionModel:
    run = Run(stage, unet, folder)
    run.train(loss)
    run.use_average()
    return unet.cpu().eval()


@torch.no_grad()
def _heard(reader: Reader, scenes: list[Scene], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    return reader.to(device()).read([caption(scene, rng) for scene in scenes])


def spread(rows: int, slope: float, steps: int) -> Tensor:
    """(rows,) times by lot; evenly spread with a `slope` of 1, the noisier the more often with more."""
    return (torch.rand(rows).pow(1 / slope) * steps).long()


def v_loss(
    unet: UNet2DConditionModel, latents: Tensor, states: Tensor, pooled: Tensor, noise_left: Tensor, times: Tensor
) -> Tensor:
    """Mean square error of v (T. Salimans and J. Ho, "Progressive distillation", 2022) at `times` (rows,).

    Unlike the noise, v tells at every step about the picture: its colours are decided where there is almost only
    noise, and an error of the noise would weigh nothing there. What a prompt says is decided in the noisy steps.
    """
    rows, where = len(latents), latents.device  # randomness is the CPU's, the same for every device
    signal = noise_left[times].view(-1, 1, 1, 1).sqrt().to(where)
    rest = (1 - signal.square()).sqrt()
    noise = torch.randn(latents.shape).to(where)
    # The pipeline's call without a negative prompt: zeros, not the encoding of "".
    kept = (torch.rand(rows, 1) >= _UNCONDITIONAL).float().to(where)
    added = {"text_embeds": pooled * kept, "time_ids": _sizes(rows).to(where)}
    with half():
        noisy = signal * latents + rest * noise
        seen = unet(noisy, times.to(where), states * kept[..., None], added_cond_kwargs=added).sample
    return nnf.mse_loss(seen.float(), signal * noise - rest * latents)


def native_sizes(rows: int) -> Tensor:
    """(rows, 6): the original size, the crop's corner and the size, as SDXL's pipeline tells them."""
    return torch.tensor([SIDE, SIDE, 0, 0, SIDE, SIDE]).float().repeat(rows, 1)


def _sizes(rows: int) -> Tensor:
    """Mostly the native size; now and then another, so that pictures of other sizes meet nothing unknown."""
    sizes = native_sizes(rows)
    other = torch.rand(rows) < 0.1
    sizes[other] = (torch.randint(8, 33, (rows, 6)) * 8.0)[other] * torch.tensor([1, 1, 0, 0, 1, 1])
    return sizes
