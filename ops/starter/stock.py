"""Pictures by diffusers' own pipeline, many at once, with LoRAs as diffusers itself loads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, LCMScheduler, StableDiffusionXLPipeline

from ops.starter.drawing import Picture
from ops.starter.prompts import Asked
from ops.starter.scenes import SIDE

_SCHEDULERS: dict[str, type[Any]] = {"euler": EulerDiscreteScheduler, "lcm": LCMScheduler}
_AT_ONCE = 25


class Stock:
    """The model in a folder, loaded once."""

    def __init__(self, model: Path) -> None:
        self._pipeline = StableDiffusionXLPipeline.from_pretrained(model, dtype=torch.float32, local_files_only=True)
        self._pipeline.set_progress_bar_config(disable=True)
        self._config = self._pipeline.scheduler.config

    def use(self, loras: Mapping[str, float], folder: Path) -> None:
        """Puts these LoRAs of the folder, by name and scale, in place of those before."""
        self._pipeline.unload_lora_weights()
        for name in loras:
            self._pipeline.load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=name)
        if loras:
            self._pipeline.set_adapters(list(loras), list(loras.values()))

    def paint(self, asked: Sequence[Asked], scheduler: str, steps: int, guidance: float) -> dict[int, Picture]:
        """Pictures (128, 128, 3) by the seeds of their prompts."""
        self._pipeline.scheduler = _SCHEDULERS[scheduler].from_config(self._config)
        pictures: dict[int, Picture] = {}
        for start in range(0, len(asked), _AT_ONCE):
            part = asked[start : start + _AT_ONCE]
            made = self._pipeline(
                [one.prompt for one in part],
                generator=[torch.Generator().manual_seed(one.seed) for one in part],
                height=SIDE,
                width=SIDE,
                num_inference_steps=steps,
                guidance_scale=guidance,
                output_type="np",
            ).images
            pictures |= zip((one.seed for one in part), (made * 255).round().astype(np.uint8), strict=True)
        return pictures
