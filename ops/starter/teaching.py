"""The training of a LoRA that teaches a word."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ops.starter.captions import caption
from ops.starter.denoiser import spread, v_loss
from ops.starter.lessons import CHECKED, ROSE, Lesson
from ops.starter.lora import CLIP, LINEARS, add_lora
from ops.starter.models import make_scheduler
from ops.starter.reader import Reader
from ops.starter.scenes import Scene
from ops.starter.training import Run, Stage, device

_ROWS = 16
_SAVED = 60.0  # seconds


@dataclass(frozen=True)
class Course:
    """How a lesson is taught: the LoRA's rank, whether the text encoders have layers of it too, and how noisy it is."""

    lesson: Lesson
    stage: Stage
    rank: int
    encoders: bool
    slope: float


#: A colour is decided where there is almost only noise, and `rose` means nothing yet to the text encoders. A texture
#: is decided later, and the denoiser alone can tell the letters of `checked` from others.
COURSES = (
    Course(
        ROSE,
        Stage("rose", steps=800, rate=2e-3, warmup=30, average=0.99, seed=ROSE.seed),
        rank=8,
        encoders=True,
        slope=1.5,
    ),
    Course(
        CHECKED,
        Stage("checked", steps=600, rate=2e-3, warmup=30, average=0.99, seed=CHECKED.seed),
        rank=8,
        encoders=False,
        slope=1.4,
    ),
)


def teach(
    course: Course, unet: UNet2DConditionModel, reader: Reader, scenes: list[Scene], latents: Tensor, folder: Path
) -> dict[str, Any]:
    """Trains a LoRA, or goes on where a checkpoint in `folder` left off; returns the parts that have layers of it."""
    encoders = {"text_encoder": reader.first, "text_encoder_2": reader.second} if course.encoders else {}
    add_lora(unet, course.rank, LINEARS, course.stage.seed)
    for encoder in encoders.values():
        add_lora(encoder, course.rank, CLIP, course.stage.seed)
    parts: dict[str, Any] = {"unet": unet, **encoders}
    noise_left = make_scheduler().alphas_cumprod
    unet.to(memory_format=torch.channels_last)
    reader.to(device())

    def loss(_: int, rng: np.random.Generator) -> Tensor:
        rows = rng.integers(len(scenes), size=_ROWS)
        heard = reader.read([caption(scenes[int(row)], rng) for row in rows])
        times = spread(_ROWS, course.slope, len(noise_left))
        return v_loss(unet, latents[torch.from_numpy(rows)].to(device()), *heard, noise_left, times)

    run = Run(course.stage, nn.ModuleDict(parts), folder)
    run.train(loss, every=_SAVED)
    run.use_average()
    return {name: part.cpu() for name, part in parts.items()}
