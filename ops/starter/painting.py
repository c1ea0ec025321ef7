"""Pictures by the trained model, as Darkroom's worker would make them: the family's own loading and pipeline."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from darkroom.tasks.catalogue import Defaults, FolderSource, Limits, ModelEntry
from darkroom.worker.device import Placement
from darkroom.worker.loading import LoadedModel, load_model
from darkroom.worker.schedulers import make_scheduler
from darkroom.worker.settings import WorkerSettings
from ops.starter.drawing import Picture
from ops.starter.prompts import Asked
from ops.starter.scenes import SIDE

STEPS, GUIDANCE, SCHEDULER = 20, 4.0, "euler"
SCHEDULERS = ["euler", "euler_a", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde", "dpmpp_sde", "ddim", "ddpm", "unipc"]


def entry(folder: Path) -> ModelEntry:
    """The catalogue entry of an exported model."""
    return ModelEntry(
        name="starter",
        family="sdxl",
        source=FolderSource(path=folder),
        defaults=Defaults(
            width=SIDE, height=SIDE, num_inference_steps=STEPS, guidance_scale=GUIDANCE, scheduler=SCHEDULER
        ),
        limits=Limits(min_side=64, max_side=256, max_pixels=256 * 256),
        schedulers=SCHEDULERS,
        description="coloured shapes of 128 pixels, drawn in a second on a CPU",
        license="Apache-2.0",
    )


class Studio:
    """An exported model, loaded once."""

    def __init__(self, folder: Path, placement: Placement, settings: WorkerSettings) -> None:
        self.model: LoadedModel = load_model(entry(folder), placement, settings)

    def __call__(
        self, asked: Asked, steps: int = STEPS, guidance: float = GUIDANCE, scheduler: str = SCHEDULER
    ) -> Picture:
        """One picture (128, 128, 3) for a prompt and its seed."""
        template = self.model.components["scheduler"]
        components = {**self.model.components, "scheduler": make_scheduler(scheduler, template, "sdxl", asked.seed)}
        pipe = self.model.family.pipeline("txt2img", components, self.model.options)
        pipe.set_progress_bar_config(disable=True)
        image: Image.Image = pipe(
            asked.prompt,
            width=SIDE,
            height=SIDE,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(asked.seed),
        ).images[0]
        return np.asarray(image.convert("RGB"))
