"""Pictures from a prompt."""

from darkroom.tasks.requests import Txt2Img
from darkroom.worker.kinds.base import PreparedJob, Run, Sources
from darkroom.worker.kinds.handover import HandingKind, denoised, refiner_facts
from darkroom.worker.kinds.hires import hires_facts, with_second_pass
from darkroom.worker.kinds.kept import kept
from darkroom.worker.kinds.products import Produced


class Txt2ImgKind(HandingKind):
    """From noise."""

    request = Txt2Img

    def make(self, prepared: PreparedJob, _sources: Sources, run: Run) -> Produced:
        """What is kept of the image of the run's seed."""
        asked = prepared.asked
        latents = denoised(prepared, run, "txt2img", width=asked.width, height=asked.height)
        return kept(prepared, run, with_second_pass(prepared, run, latents))

    def facts(self, prepared: PreparedJob) -> dict[str, object]:
        """Of a refiner and a second pass."""
        hires = prepared.asked.hires
        strength = {"Denoising strength": f"{hires.strength:g}"} if hires else {}
        return {**refiner_facts(prepared), **strength, **hires_facts(prepared)}
