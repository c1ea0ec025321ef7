"""How noise becomes a picture: steps, scheduler, and what the denoiser is told besides the prompt."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from darkroom.tasks.catalogue import SCHEDULERS, ModelOffer, scheduler_id
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import Corner, Extent, Listed, SchedulerName
from darkroom.tasks.requests.base import JobRequest, defaults
from darkroom.tasks.steps import step_faults

#: Fields that only families with SDXL's size conditioning read (arXiv:2307.01952, 2.2).
SIZE_CONDITIONS = ("original_size", "crop", "target_size")

Output = Literal["image", "latents"]


def _one_or_several(value: object, info: ValidationInfo) -> object:
    """Python's callers may leave out the brackets around one."""
    return [value] if isinstance(value, str) and info.mode == "python" else value


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

    output: Annotated[list[Output], Listed, BeforeValidator(_one_or_several)] = Field(
        default=["image"], min_length=1, description="what is kept of each image: image, latents, or both"
    )

    def faults(self, offer: ModelOffer) -> Iterator[Fault]:
        """Too many steps for model or scheduler, schedulers that do not fit, and what no pipeline would read."""
        yield from super().faults(offer)
        steps = self.num_inference_steps or offer.defaults.num_inference_steps
        scheduler = scheduler_id(self.scheduler or offer.defaults.scheduler)
        yield from step_faults("num_inference_steps", steps, scheduler, offer)
        if self.scheduler is not None and scheduler not in offer.schedulers:
            fitting = ", ".join(offer.schedulers)
            reason = f"{SCHEDULERS[scheduler][0]} does not fit {offer.name}; there are: {fitting}"
            yield Fault("scheduler", "scheduler_not_supported", reason)
        if offer.family == "sd":
            yield from self._not_for_sd(offer.name)
        if offer.family == "sdxl-refiner" and self.target_size is not None:
            yield Fault(
                "target_size", "not_supported", f"{offer.name} is a refiner, which is told a score in its place"
            )

    def warnings(self, offer: ModelOffer) -> Iterator[str]:
        """`guidance_rescale_ignored`: without guidance there is nothing to bring back."""
        yield from super().warnings(offer)
        asked = getattr(self, "guidance_scale", None)
        if self.guidance_rescale and (offer.defaults.guidance_scale if asked is None else asked) <= 1:
            yield "guidance_rescale_ignored"

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The model's steps and scheduler."""
        return super().filled(offer) | defaults(self, offer, "num_inference_steps", "scheduler")

    @field_validator("output")
    @classmethod
    def _each_once(cls, output: list[Output]) -> list[Output]:
        if len(set(output)) < len(output):
            raise ValueError("names one of them twice")
        return sorted(output)  # the order says nothing

    def _not_for_sd(self, name: str) -> Iterator[Fault]:
        for field in SIZE_CONDITIONS:
            if getattr(self, field) is not None:
                yield Fault(field, "not_supported", f"{name} is of the family sd, which is told of no sizes")
        # diffusers 0.42: of the family's pipelines only the one that begins with noise takes it.
        if self.guidance_rescale and "image" in self.inputs:
            reason = f"{name} is of the family sd, which has it for pictures from a prompt alone"
            yield Fault("guidance_rescale", "not_supported", reason)
