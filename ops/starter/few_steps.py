"""A LoRA with which four steps do: a consistency model with the guidance inside.

S. Luo et al., "LCM-LoRA: A Universal Stable-Diffusion Acceleration Module", 2023, and Y. Song et al., "Consistency
Models", 2023: from each point of a path to a picture the student says the picture at its end. What it says one step
of the teacher nearer to that end is right, so what it says here must be the same.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ops.starter.captions import caption
from ops.starter.denoiser import native_sizes
from ops.starter.lora import LINEARS, add_lora
from ops.starter.models import make_scheduler
from ops.starter.reader import Reader
from ops.starter.scenes import Scene
from ops.starter.training import Run, Stage, device

FEW_STEPS = Stage("few-steps", steps=500, rate=3e-4, warmup=50, average=0.99, seed=21)
RANK = 12
GUIDANCE = 1.5  # the model's default
_ROWS = 32
#: Of 1,000 times: one step of the teacher. Eight of them make as good a picture as twenty, and what the student says
#: near the picture reaches pure noise, where all begins, the sooner.
_STRIDE = 125
_PURE = 0.15  # of the rows are pure noise
_HUBER = 0.03  # where an error begins to count as it is, no longer squared; latents are of deviation 1
_SAVED = 120.0  # seconds

Heard = tuple[Tensor, Tensor]


def train_few_steps(
    teacher: UNet2DConditionModel,
    student: UNet2DConditionModel,
    scenes: list[Scene],
    latents: Tensor,
    reader: Reader,
    folder: Path,
) -> UNet2DConditionModel:
    """Trains a LoRA on `student`, or goes on where a checkpoint in `folder` left off. Both are the same model."""
    add_lora(student, RANK, LINEARS, FEW_STEPS.seed)
    teacher.to(device(), memory_format=torch.channels_last)
    student.to(memory_format=torch.channels_last)

    def loss(_: int, rng: np.random.Generator) -> Tensor:
        rows = rng.integers(len(scenes), size=_ROWS)
        with torch.no_grad():
            heard = reader.to(device()).read([caption(scenes[int(row)], rng) for row in rows])
        return consistency_loss(teacher, student, latents[torch.from_numpy(rows)].to(device()), heard)

    run = Run(FEW_STEPS, student, folder)
    run.train(loss, every=_SAVED)
    run.use_average()
    return student.cpu()


def consistency_loss(
    teacher: UNet2DConditionModel, student: UNet2DConditionModel, latents: Tensor, heard: Heard
) -> Tensor:
    """Pseudo-Huber distance of what the student says at a time by lot, and one guided DDIM step nearer the picture.

    `latents` (rows, 4, h, w); `heard` are the words' states (rows, 77, width) and the pooled ones (rows, width).
    """
    noise_left = torch.cat([torch.ones(1), make_scheduler().alphas_cumprod])  # of time -1, 0, … 999
    times = torch.randint(1000, (len(latents),)).where(torch.rand(len(latents)) >= _PURE, torch.tensor(999))
    later = (times - _STRIDE).clamp(min=-1)
    here, there = noise_left[times + 1], noise_left[later + 1]
    noisy = _mixed(latents, torch.randn(latents.shape).to(latents.device), here)
    with torch.no_grad():
        v = _guided(teacher, noisy, times, heard)
        nearer = _mixed(_picture(noisy, v, here), _noise(noisy, v, here), there)
        said = _picture(nearer, _v(student, nearer, later.clamp(min=0), heard), there)  # without noise: `nearer` itself
    found = _picture(noisy, _v(student, noisy, times, heard), here)
    return ((found - said).square() + _HUBER**2).sqrt().mean() - _HUBER


def _guided(unet: UNet2DConditionModel, noisy: Tensor, times: Tensor, heard: Heard) -> Tensor:
    """The v of the model with classifier-free guidance, as the pipeline asks for it: zeros instead of words."""
    states, pooled = (torch.cat([said, torch.zeros_like(said)]) for said in heard)
    both = _v(unet, torch.cat([noisy, noisy]), torch.cat([times, times]), (states, pooled))
    told, silent = both.chunk(2)
    return silent + GUIDANCE * (told - silent)


def _v(unet: UNet2DConditionModel, noisy: Tensor, times: Tensor, heard: Heard) -> Tensor:
    states, pooled = heard
    added = {"text_embeds": pooled, "time_ids": native_sizes(len(noisy)).to(noisy.device)}
    found: Tensor = unet(noisy, times.to(noisy.device), states, added_cond_kwargs=added).sample
    return found


def _mixed(picture: Tensor, noise: Tensor, left: Tensor) -> Tensor:
    signal = _wide(left, picture)
    return signal.sqrt() * picture + (1 - signal).sqrt() * noise


def _picture(noisy: Tensor, v: Tensor, left: Tensor) -> Tensor:
    signal = _wide(left, noisy)
    return signal.sqrt() * noisy - (1 - signal).sqrt() * v


def _noise(noisy: Tensor, v: Tensor, left: Tensor) -> Tensor:
    signal = _wide(left, noisy)
    return signal.sqrt() * v + (1 - signal).sqrt() * noisy


def _wide(left: Tensor, like: Tensor) -> Tensor:
    return left.view(-1, 1, 1, 1).to(like.device)
