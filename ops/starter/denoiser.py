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
from ops.starter.training import Run, Stage, device, half

DENOISER = Stage("denoiser", steps=12_000, rate=1e-3, warmup=300, average=0.999, weight_decay=0.01, seed=2)
_ROWS = 32
_UNCONDITIONAL = 0.1  # of the rows


def train_denoiser(scenes: list[Scene], latents: Tensor, reader: Reader, folder: Path) -> UNet2DConditionModel:
    """Trains it, or goes on where a checkpoint in `folder` left off. `latents` are the scenes' (rows, 4, 16, 16)."""
    torch.manual_seed(DENOISER.seed)
    unet, reader = make_unet(), reader.to(device())
    run = Run(DENOISER, unet, folder)
    noise_left = make_scheduler().alphas_cumprod

    def loss(_: int, rng: np.random.Generator) -> Tensor:
        rows = rng.integers(len(scenes), size=_ROWS)
        with torch.no_grad():
            heard = reader.read([caption(scenes[int(row)], rng) for row in rows])
        return v_loss(unet, latents[torch.from_numpy(rows)].to(device()), *heard, noise_left)

    run.train(loss)
    run.use_average()
    return unet.cpu().eval()


def v_loss(unet: UNet2DConditionModel, latents: Tensor, states: Tensor, pooled: Tensor, noise_left: Tensor) -> Tensor:
    """Mean square error of v (T. Salimans and J. Ho, "Progressive distillation", 2022), noisier steps the more often.

    Unlike the noise, v tells at every step about the picture: its colours are decided where there is almost only
    noise, and an error of the noise would weigh nothing there. What a prompt says is decided in the noisy steps.
    """
    rows, where = len(latents), latents.device  # randomness is the CPU's, the same for every device
    times = (torch.rand(rows).sqrt() * len(noise_left)).long()
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


def _sizes(rows: int) -> Tensor:
    """Mostly the native size; now and then another, so that pictures of other sizes meet nothing unknown."""
    sizes = torch.tensor([SIDE, SIDE, 0, 0, SIDE, SIDE]).float().repeat(rows, 1)
    other = torch.rand(rows) < 0.1
    sizes[other] = (torch.randint(8, 33, (rows, 6)) * 8.0)[other] * torch.tensor([1, 1, 0, 0, 1, 1])
    return sizes
