"""Pictures from a picture and a prompt."""

from typing import Any, ClassVar

import torch
from PIL import Image

from darkroom.tasks.requests import Img2Img
from darkroom.worker.kinds.base import PreparedJob, Run, Sources, latents_of, source_of
from darkroom.worker.kinds.handover import HandingKind, denoised, refiner_facts
from darkroom.worker.kinds.hires import hires_facts, with_second_pass
from darkroom.worker.kinds.kept import kept
from darkroom.worker.kinds.latents import size_of
from darkroom.worker.kinds.products import Produced


class Img2ImgKind(HandingKind):
    """From a source picture, or its latents, with noise over it."""

    request = Img2Img
    trial_fields: ClassVar[dict[str, Any]] = {"strength": 0.5}

    def make(self, prepared: PreparedJob, sources: Sources, run: Run) -> Produced:
        """What is kept of the image of the run's seed."""
        asked, latents = prepared.asked, latents_of(sources)
        if latents is not None:
            return kept(prepared, run, with_second_pass(prepared, run, _first(prepared, latents, run)))
        source = source_of(prepared, sources)
        if asked.left < 1 and asked.hires is None:
            if "latents" not in asked.output:
                return Produced(run.round_trip(source))
            return kept(prepared, run, run.encode(source), lambda: run.round_trip(source))
        return kept(prepared, run, with_second_pass(prepared, run, _first(prepared, source, run)))

    def facts(self, prepared: PreparedJob) -> dict[str, object]:
        """The strength, and of a refiner and a second pass."""
        asked = prepared.asked
        hires = {"Hires strength": f"{asked.hires.strength:g}"} if asked.hires else {}
        strength = {"Denoising strength": f"{asked.strength:g}"}
        return {**strength, **refiner_facts(prepared), **hires_facts(prepared), **hires}


def _first(prepared: PreparedJob, source: Image.Image | torch.Tensor, run: Run) -> torch.Tensor:
    """Noise is laid over latents as they are: diffusers' pipelines take them for a picture of 4 channels."""
    asked = prepared.asked
    if asked.left < 1:
        return source if isinstance(source, torch.Tensor) else run.encode(source)
    if asked.from_noise:
        width, height = size_of(source) if isinstance(source, torch.Tensor) else source.size
        return denoised(prepared, run, "txt2img", width=width, height=height)
    return denoised(prepared, run, "img2img", image=source, strength=asked.strength)
