"""How noise becomes a picture: steps, scheduler, and what the denoiser is told besides the prompt."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from darkroom.tasks.catalogue import SCHEDULERS, ModelOffer, scheduler_id
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import Corner, Extent, Listed, SchedulerName, one_or_several
from darkroom.tasks.requests.base import LEAST_MEGAPIXELS, JobRequest, Rule, defaults, megapixels
from darkroom.tasks.steps import step_faults, steps_left

#: Fields that only families with SDXL's size conditioning read (arXiv:2307.01952, 2.2).
SIZE_CONDITIONS = ("original_size", "crop", "target_size")

#: What a picture costs beside its steps, in steps: its text, and its decoding.
DECODING = 1

Output = Literal["image", "latents"]


class Sampled(JobRequest):
    """How noise becomes a picture."""

    about: ClassVar[str] = "denoising"

    num_inference_steps: int | None = Field(default=None, ge=1, le=1000, description="denoising steps")
    scheduler: SchedulerName | None = Field(default=None, description='such as euler, "DPM++ 2M Karras"')
    guidance_rescale: float = Field(
        default=0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="how far guidance is brought back to the contrast of the unguided picture",
    )
    original_size: Extent | None = Field(
        default=None, description="WIDTHxHEIGHT that SDXL is told the picture had once; small: less detail"
    )
    crop: Corner | None = Field(
        default=None, description="LEFT,TOP that SDXL is told were cut off; default: nothing, 0,0"
    )
    target_size: Extent | None = Field(
        default=None, description="WIDTHxHEIGHT that SDXL is told the picture has; default: its own"
    )

    output: Annotated[list[Output], Listed, one_or_several()] = Field(
        default=["image"], min_length=1, description="what is kept of each image: image, latents, or both"
    )

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """Too many steps for model or scheduler, schedulers that do not fit, and what no pipeline would read."""
        yield from super().rules(offer)
        yield self._steps_rule(offer)
        yield self._scheduler_rule(offer)
        yield from (self._told_size_rule(field, offer) for field in SIZE_CONDITIONS)
        yield self._rescale_rule(offer)

    def warnings(self, offer: ModelOffer) -> Iterator[str]:
        """`guidance_rescale_ignored`: without guidance there is nothing to bring back. `no_steps`: none is left."""
        yield from super().warnings(offer)
        if self.guidance_rescale and self.rows(offer) == 1:
            yield "guidance_rescale_ignored"
        if not self.steps_made(offer):
            yield "no_steps"

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The model's steps and scheduler."""
        return super().filled(offer) | defaults(self, offer, "num_inference_steps", "scheduler")

    @field_validator("output")
    @classmethod
    def _each_once(cls, output: list[Output]) -> list[Output]:
        if len(set(output)) < len(output):
            raise ValueError("names one of them twice")
        return sorted(output)  # the order says nothing

    def cost(self, offer: ModelOffer) -> float:
        """Of all steps of all pictures, by their size, twice with guidance."""
        width, height = self.extent(offer)
        if not width or not height:  # that of a source picture, which nobody has looked at yet
            width, height = offer.defaults.width, offer.defaults.height
        steps = self.steps_made(offer) + DECODING
        return self.pieces * self.rows(offer) * steps * max(megapixels(width, height), LEAST_MEGAPIXELS)

    def steps_made(self, offer: ModelOffer) -> int:
        """Those that `strength` leaves, where there is one."""
        steps, strength = self.asked_steps(offer), getattr(self, "strength", None)
        return steps if strength is None else steps_left(steps, strength)

    def rows(self, offer: ModelOffer) -> int:
        """Of a denoiser call, for one picture."""
        scale = getattr(self, "guidance_scale", None)
        return 2 if (offer.defaults.guidance_scale if scale is None else scale) > 1 else 1

    def asked_steps(self, offer: ModelOffer) -> int:
        """As many as were asked for; else the model's own number."""
        return self.num_inference_steps or offer.defaults.num_inference_steps

    def asked_scheduler(self, offer: ModelOffer) -> str:
        """The id of the one that was asked for; else of the model's own."""
        return scheduler_id(self.scheduler or offer.defaults.scheduler)

    def _steps_rule(self, offer: ModelOffer) -> Rule:
        yield from step_faults("num_inference_steps", self.asked_steps(offer), self.asked_scheduler(offer), offer)

    def _scheduler_rule(self, offer: ModelOffer) -> Rule:
        if self.scheduler is not None and (scheduler := scheduler_id(self.scheduler)) not in offer.schedulers:
            fitting = ", ".join(offer.schedulers)
            reason = f"{SCHEDULERS[scheduler][0]} does not fit {offer.name}; there are: {fitting}"
            yield Fault("scheduler", "scheduler_not_supported", reason)

    def _told_size_rule(self, field: str, offer: ModelOffer) -> Rule:
        if getattr(self, field) is None:
            return
        if offer.family == "sd":
            yield Fault(field, "not_supported", f"{offer.name} is of the family sd, which is told of no sizes")
        if offer.family == "sdxl-refiner" and field == "target_size":
            yield Fault(field, "not_supported", f"{offer.name} is a refiner, which is told a score in its place")

    def _rescale_rule(self, offer: ModelOffer) -> Rule:
        # diffusers 0.42: of the family's pipelines only the one that begins with noise takes it.
        if offer.family == "sd" and self.guidance_rescale and "image" in self.inputs:
            reason = f"{offer.name} is of the family sd, which has it for pictures from a prompt alone"
            yield Fault("guidance_rescale", "not_supported", reason)
