"""A second pass at a larger size: a field of the kinds that make whole pictures."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from darkroom.tasks.catalogue import NOT_OF_FAMILY, Catalogue, ModelName, ModelOffer, scheduler_id
from darkroom.tasks.errors import Fault
from darkroom.tasks.needs import FurtherModel
from darkroom.tasks.requests.checked import Checked
from darkroom.tasks.requests.further import further_model_faults
from darkroom.tasks.requests.parts import Sampled, Sized
from darkroom.tasks.sizes import enlarged, enlargement_faults
from darkroom.tasks.steps import step_faults

Upscale = Literal["lanczos", "latent"]


class Hires(Checked):
    """How a first picture becomes a larger one: it is scaled up, and an img2img of it adds what was not there."""

    model_config = ConfigDict(revalidate_instances="always")

    scale: float = Field(default=1.5, gt=1, le=4, allow_inf_nan=False, description="of both sides")
    strength: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False, description="0 only scales, 1 begins anew")
    steps: int | None = Field(
        default=None, ge=1, le=1000, description="of which strength leaves a part; as the first's"
    )
    model: Annotated[ModelName | None, FurtherModel()] = Field(
        default=None, description="a catalogue name, such as sdxl-refiner; default: the job's"
    )
    upscale: Upscale = Field(default="lanczos", description="lanczos: the pixels; latent: the latents, undecoded")


class Enlarged(Sampled, Sized):
    """A second pass, if one is asked for. Width and height stay those of the first."""

    about: ClassVar[str] = "a second pass, or another model"

    hires: Hires | None = Field(default=None, description="a second pass over the picture at a larger size")

    def result_size(self, offer: ModelOffer) -> tuple[int, int]:
        """That of the second pass."""
        size = self.extent(offer)
        return enlarged(*size, self.hires.scale, offer.limits) if self.hires else size

    def faults(self, offer: ModelOffer) -> Iterator[Fault]:
        """A second pass beyond what the model makes, or the format holds."""
        yield from super().faults(offer)
        if self.hires is None:
            return
        yield from enlargement_faults(self.output_format, *self.extent(offer), self.hires.scale, offer)
        if offer.family == "sd" and self.guidance_rescale and "image" not in self.inputs:
            reason = f"{offer.name} is of the family sd, which has it for pictures from a prompt alone: not for hires"
            yield Fault("guidance_rescale", "not_supported", reason)
        if self.hires.model is None:
            yield from self._from_noise(offer)
        scheduler = scheduler_id(self.scheduler or offer.defaults.scheduler)
        yield from step_faults("hires.steps", self.hires.steps or 1, scheduler, offer)

    def faults_beside(self, offer: ModelOffer, catalogue: Catalogue) -> Iterator[Fault]:
        """A model of the second pass that does not exist, or cannot make it."""
        yield from super().faults_beside(offer, catalogue)
        if self.hires is None or self.hires.model is None:
            return
        name, scheduler = self.hires.model, scheduler_id(self.scheduler or offer.defaults.scheduler)
        steps = self.hires.steps or self.num_inference_steps or offer.defaults.num_inference_steps
        yield from further_model_faults(
            "hires.model", name, offer, catalogue, self.result_size(offer), scheduler, steps
        )
        if name in catalogue:
            yield from self._from_noise(catalogue[name])

    def _from_noise(self, offer: ModelOffer) -> Iterator[Fault]:
        if self.hires and self.hires.strength == 1 and offer.family in NOT_OF_FAMILY:
            reason = f"is 1, which begins with noise alone: {NOT_OF_FAMILY[offer.family][1]}"
            yield Fault("hires.strength", "too_large", reason)

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The steps of the second pass: those of the first."""
        values = super().filled(offer)
        if self.hires is None or self.hires.steps is not None:
            return values
        steps = values.get("num_inference_steps", self.num_inference_steps)
        return values | {"hires": self.hires.model_copy(update={"steps": steps})}
