"""Pictures from a picture and a prompt."""

from typing import Any, ClassVar

from darkroom.tasks.requests import Img2Img
from darkroom.worker.kinds.base import Kind, PreparedJob, Run, Sources, source_of
from darkroom.worker.kinds.products import Produced


class Img2ImgKind(Kind):
    """From a source picture with noise over it."""

    request = Img2Img
    trial_fields: ClassVar[dict[str, Any]] = {"strength": 0.5}

    def make(self, prepared: PreparedJob, sources: Sources, run: Run) -> Produced:
        """The picture of the run's seed."""
        asked, source = prepared.asked, source_of(prepared, sources)
        if asked.steps < 1:
            return Produced(run.round_trip(source))
        if asked.from_noise:
            return Produced(
                run.denoise("txt2img", asked, prepared.conditioning, width=source.width, height=source.height)
            )
        return Produced(run.denoise("img2img", asked, prepared.conditioning, image=source, strength=asked.strength))

    def facts(self, prepared: PreparedJob) -> dict[str, object]:
        """The strength."""
        return {"Denoising strength": f"{prepared.asked.strength:g}"}
