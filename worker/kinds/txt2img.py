"""Pictures from a prompt."""

from darkroom.tasks.requests import Txt2Img
from darkroom.worker.kinds.base import Kind, PreparedJob, Run, Sources
from darkroom.worker.kinds.products import Produced


class Txt2ImgKind(Kind):
    """From noise."""

    request = Txt2Img

    def make(self, prepared: PreparedJob, _sources: Sources, run: Run) -> Produced:
        """The picture of the run's seed."""
        asked = prepared.asked
        return Produced(run.denoise("txt2img", asked, prepared.conditioning, width=asked.width, height=asked.height))
