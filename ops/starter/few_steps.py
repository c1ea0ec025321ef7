"""A LoRA with which a few steps do, for the scheduler LCM and without guidance, which it has inside.

S. Luo et al., "Latent Consistency Models", 2023, but with a teacher that goes each path to its end, as in E. Luhman and
T. Luhman, "Knowledge Distillation in Iterative Generative Models", 2021: from eight points of a path the student says
the picture at its end. That costs more than to have it agree with itself from one point to the next, and with so
small a model it is affordable and sure: nothing wrong is handed on from point to point.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ops.starter.captions import caption
from ops.starter.denoiser import native_sizes
from ops.starter.lora import LINEARS, add_lora
from ops.starter.models import make_scheduler
from ops.starter.pictures import drawn_scene
from ops.starter.reader import Reader
from ops.starter.training import Run, Stage, device, say

FEW_STEPS = Stage("few-steps", steps=800, rate=5e-4, warmup=30, average=0.99, seed=21)
RANK = 12
GUIDANCE = 1.5  # the model's default
PATHS = 3_000
#: Of the teacher's steps. Every second one is of diffusers' LCMScheduler with four steps, and counts twice.
TIMES = (999, 879, 759, 629, 499, 379, 259, 129)
_WEIGHTS = np.array([2, 1] * 4) / 12
_ROWS = 32
_HUBER = 0.03  # where an error begins to count as it is, no longer squared; latents are of deviation 1
_SAVED = 120.0  # seconds

Heard = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Paths:
    """Captions, and what the teacher made of noise with each: (paths, 9, 4, h, w), latents at TIMES and at the end."""

    captions: list[str]
    latents: Tensor


def train_few_steps(student: UNet2DConditionModel, paths: Paths, reader: Reader, folder: Path) -> UNet2DConditionModel:
    """Trains a LoRA on `student`, or goes on where a checkpoint in `folder` left off."""
    add_lora(student, RANK, LINEARS, FEW_STEPS.seed)
    student.to(memory_format=torch.channels_last)
    reader.to(device())

    def loss(_: int, rng: np.random.Generator) -> Tensor:
        rows, points = rng.integers(len(paths.captions), size=_ROWS), rng.choice(len(TIMES), size=_ROWS, p=_WEIGHTS)
        with torch.no_grad():
            heard = reader.read([paths.captions[row] for row in rows])
        noisy, end = paths.latents[rows, points].to(device()), paths.latents[rows, -1].to(device())
        return end_loss(student, noisy, torch.tensor(TIMES)[points], end, heard)

    run = Run(FEW_STEPS, student, folder)
    run.train(loss, every=_SAVED)
    run.use_average()
    return student.cpu()


def end_loss(unet: UNet2DConditionModel, noisy: Tensor, times: Tensor, end: Tensor, heard: Heard) -> Tensor:
    """Pseudo-Huber distance of the picture that `unet` sees in `noisy` (rows, 4, h, w) at `times` (rows,) from `end`.

    `heard` are the words' states (rows, 77, width) and the pooled ones (rows, width).
    """
    found = _picture(noisy, _v(unet, noisy, times, heard), _left(times))
    return ((found - end).square() + _HUBER**2).sqrt().mean() - _HUBER


def walked_paths(teacher: UNet2DConditionModel, reader: Reader, count: int, seed: int, folder: Path) -> Paths:
    """Paths of the guided teacher from pure noise, for captions of drawn scenes; kept in `folder`."""
    captions = [caption(drawn_scene(seed, row)[0], np.random.default_rng([seed, row, 1])) for row in range(count)]
    kept = folder / f"paths-{seed}-{count}.pt"
    if not kept.exists():
        teacher.to(device(), memory_format=torch.channels_last)
        reader.to(device())
        walked = []
        for start in range(0, count, _ROWS):
            torch.manual_seed(seed * 1_000_003 + start)
            walked.append(walk(teacher, reader.read(captions[start : start + _ROWS])).cpu())
            if start // _ROWS % 10 == 0:
                say(f"paths: {start} of {count}")
        torch.save(torch.cat(walked), kept)
    return Paths(captions, torch.load(kept, weights_only=True))


@torch.no_grad()
def walk(teacher: UNet2DConditionModel, heard: Heard) -> Tensor:
    """(rows, 9, 4, 16, 16) by DDIM (J. Song et al., "Denoising Diffusion Implicit Models", 2020): at TIMES, the end."""
    rows = len(heard[0])
    points = [torch.randn(rows, 4, 16, 16).to(device())]
    for time, later in zip(TIMES, (*TIMES[1:], -1), strict=True):
        noisy, here, there = points[-1], _left(torch.tensor([time])), _left(torch.tensor([later]))
        v = _guided(teacher, noisy, torch.full((rows,), time), heard)
        noise = here.sqrt() * v + (1 - here).sqrt() * noisy
        points.append(there.sqrt() * _picture(noisy, v, here) + (1 - there).sqrt() * noise)
    return torch.stack(points, dim=1)


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


def _picture(noisy: Tensor, v: Tensor, left: Tensor) -> Tensor:
    return left.sqrt() * noisy - (1 - left).sqrt() * v


def _left(times: Tensor) -> Tensor:
    """How much of a picture's variance is left at these times, all of it at -1: (rows, 1, 1, 1)."""
    left = torch.cat([make_scheduler().alphas_cumprod, torch.ones(1)])
    return left[times].view(-1, 1, 1, 1).to(device())
