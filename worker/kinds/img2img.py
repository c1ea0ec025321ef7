"""Pictures from a picture and a prompt."""

from typing import Any, ClassVar

from darkroom.tasks.requests import Img2Img
from darkroom.worker.kinds.base import Kind, PreparedJob, Run, Sources, source_of
from darkroom.worker.kinds.kept import kept
from darkroom.worker.kinds.products import Produced


class Img2ImgKind(Kind):
    """From a source picture with noise over it."""

    request = Img2Img
    trial_fields: ClassVar[dict[str, Any]] = {"strength": 0.5}

    def make(self, prepared: PreparedJob, sources: Sources, run: Run) -> Produced:
        """What is kept of the image of the run's seed."""
        asked, source, words = prepared.asked, source_of(prepared, sources), prepared.conditioning
        if asked.steps < 1:
            if "latents" not in asked.output:
                return Produced(run.round_trip(source))
            return kept(prepared, run, run.encode(source), lambda: run.round_trip(source))
        if asked.from_noise:
            return kept(prepared, run, run.latents("txt2img", asked, words, width=source.width, height=source.height))
        return kept(prepared, run, run.latents("img2img", asked, words, image=source, strength=asked.strength))

    def facts(self, prepared: PreparedJob) -> dict[str, object]:
        """The strength."""
        return {"Denoising strength": f"{prepared.asked.strength:g}"}
