"""A second pass at a larger size: a field of the kinds that make whole pictures."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from darkroom.tasks.catalogue import NOT_OF_FAMILY, Catalogue, ModelName, ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.needs import FurtherModel
from darkroom.tasks.requests.base import Rule, megapixels
from darkroom.tasks.requests.checked import Checked
from darkroom.tasks.requests.further import Further
from darkroom.tasks.requests.parts import Sampled, Sized
from darkroom.tasks.requests.sampled import DECODING
from darkroom.tasks.sizes import enlarged, enlargement_faults
from darkroom.tasks.steps import step_faults, steps_left

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

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """A second pass beyond what the model makes, or the format holds."""
        yield from super().rules(offer)
        yield self._enlargement_rule(offer)
        yield self._hires_rescale_rule(offer)
        yield self._hires_steps_rule(offer)

    def rules_beside(self, offer: ModelOffer, catalogue: Catalogue) -> Iterator[Rule]:
        """A model of the second pass that does not exist, or cannot make it."""
        yield from super().rules_beside(offer, catalogue)
        yield self._second_from_noise_rule(offer, catalogue)
        if (hires := self.readable("hires")) and hires.model:
            further = Further("hires.model", hires.model, offer, catalogue)
            yield from further.rules(
                size=lambda: self.result_size(offer),
                scheduler=lambda: self.asked_scheduler(offer),
                steps=lambda: self.second_steps(offer),
            )

    def idle(self, offer: ModelOffer) -> Iterator[Rule]:
        """What is said of steps that are not made, or of a scaling that is not done."""
        yield from super().idle(offer)
        yield self._idle_second_rule(offer)
        yield self._idle_upscale_rule()

    def warnings(self, offer: ModelOffer) -> Iterator[str]:
        """`no_hires_steps`: strength leaves none. `hires_from_noise`: nothing of the first pass but its size."""
        yield from super().warnings(offer)
        if self.hires and not steps_left(self.second_steps(offer), self.hires.strength):
            yield "no_hires_steps"
        if self.hires and self.hires.strength == 1:
            yield "hires_from_noise"

    def cost(self, offer: ModelOffer) -> float:
        """With the steps of the second pass, at its size."""
        first = super().cost(offer)
        if not self.hires:
            return first
        steps = steps_left(self.second_steps(offer), self.hires.strength) + DECODING
        return first + self.pieces * self.rows(offer) * steps * megapixels(*self.result_size(offer))

    def second_steps(self, offer: ModelOffer) -> int:
        """Of which the second pass's strength leaves a part."""
        return (self.hires.steps if self.hires else None) or self.asked_steps(offer)

    def _enlargement_rule(self, offer: ModelOffer) -> Rule:
        if self.hires:
            yield from enlargement_faults(self.output_format, *self.extent(offer), self.hires.scale, offer)

    def _hires_rescale_rule(self, offer: ModelOffer) -> Rule:
        if self.hires and offer.family == "sd" and self.guidance_rescale and "image" not in self.inputs:
            reason = f"{offer.name} is of the family sd, which has it for pictures from a prompt alone: not for hires"
            yield Fault("guidance_rescale", "not_supported", reason)

    def _hires_steps_rule(self, offer: ModelOffer) -> Rule:
        if self.hires and self.hires.steps:
            yield from step_faults("hires.steps", self.hires.steps, self.asked_scheduler(offer), offer)

    def _second_from_noise_rule(self, offer: ModelOffer, catalogue: Catalogue) -> Rule:
        if self.hires is None or self.hires.strength < 1:
            return
        by = catalogue.get(self.hires.model) if self.hires.model else offer
        if by and by.family in NOT_OF_FAMILY:
            reason = f"is 1, which begins with noise alone: {NOT_OF_FAMILY[by.family][1]}"
            yield Fault("hires.strength", "too_large", reason)

    def _idle_second_rule(self, offer: ModelOffer) -> Rule:
        if self.hires is None or not (self.hires.model or self.hires.steps):
            return
        steps, strength = self.second_steps(offer), self.hires.strength
        if steps_left(steps, strength):
            return
        reason = f"of {steps} steps strength {strength:g} leaves none to the second pass: give more of either"
        if self.hires.model:
            yield Fault("hires.model", "no_steps", reason)
        if self.hires.steps and self.hires.steps != self.asked_steps(offer):  # else as if left out, and as filled in
            yield Fault("hires.steps", "no_steps", reason)

    def _idle_upscale_rule(self) -> Rule:
        if self.hires and self.hires.strength == 1 and self.hires.upscale != "lanczos":
            reason = "nothing is scaled at strength 1: the second pass begins with noise alone"
            yield Fault("hires.upscale", "from_noise", reason)

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The steps of the second pass: those of the first."""
        values = super().filled(offer)
        if self.hires is None or self.hires.steps is not None:
            return values
        steps = values.get("num_inference_steps", self.num_inference_steps)
        return values | {"hires": self.hires.model_copy(update={"steps": steps})}
