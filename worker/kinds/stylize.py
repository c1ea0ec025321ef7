"""Pictures in the style of others: with a picture to begin with as img2img, without one as txt2img."""

from collections.abc import Mapping
from typing import Any, ClassVar

from PIL import Image

from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.requests import JobRequest, Style, Stylize
from darkroom.worker.adapters.styles import StyleWish
from darkroom.worker.kinds.base import Kind, PreparedJob, Run, Sources
from darkroom.worker.kinds.handover import HandingKind
from darkroom.worker.kinds.img2img import Img2ImgKind
from darkroom.worker.kinds.products import Produced
from darkroom.worker.kinds.sources import naming, read_picture
from darkroom.worker.kinds.txt2img import Txt2ImgKind

_FROM_NOISE, _FROM_PICTURE = Txt2ImgKind(), Img2ImgKind()


class StylizeKind(HandingKind):
    """The job's own model looks at the style in each of its passes; further ones know nothing of it."""

    request = Stylize
    trial_fields: ClassVar[Mapping[str, Any]] = {}

    def read_sources(self, prepared: PreparedJob, inputs: Mapping[str, bytes], most_pixels: int) -> Sources:
        """The style's pictures in their own sizes."""
        found = {}
        for name in inputs.keys() & _style_places(prepared.request):
            with naming(name):
                found[name] = read_picture(inputs[name], most_pixels)
        others = {name: data for name, data in inputs.items() if name not in found}
        return {**super().read_sources(prepared, others, most_pixels), **found}

    def make(self, prepared: PreparedJob, sources: Sources, run: Run) -> Produced:
        """What is kept of the image of the run's seed."""
        asked = prepared.asked
        wish = StyleWish(
            [sources[place] for place in _style_places(prepared.request)],
            [style.weight for style in asked.styles],
            asked.style_scale,
            asked.layout_scale,
        )
        return _like(prepared).make(prepared, sources, run.styled(wish))

    def facts(self, prepared: PreparedJob) -> dict[str, object]:
        """How many pictures, and how much of them."""
        asked = prepared.asked
        scales = {"Style scale": asked.style_scale, "Layout scale": asked.layout_scale}
        told = {name: f"{scale:g}" for name, scale in scales.items() if scale}
        return {**_like(prepared).facts(prepared), "Style pictures": len(asked.styles), **told}

    def trial(self, entry: ModelEntry, width: int, height: int) -> tuple[JobRequest, Sources]:
        """In the style of a grey picture."""
        request, _ = super().trial(entry, width, height)
        styles = [Style.model_construct(image="inputs/default/trial.png", weight=1.0)]
        styled = request.model_copy(update={"styles": styles})
        return styled, dict.fromkeys(_style_places(styled), Image.new("RGB", (width, height), "grey"))


def _like(prepared: PreparedJob) -> Kind:
    """The kind that it is apart from its style."""
    return _FROM_PICTURE if "image" in prepared.request.references else _FROM_NOISE


def _style_places(request: JobRequest) -> list[str]:
    return [place for place in request.references if place.startswith("styles.")]
