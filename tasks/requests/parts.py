"""What several kinds have in common: groups of fields, each with its limits, its defaults and its warnings."""

import secrets
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from darkroom.tasks.catalogue import MOST_STEPS, SCHEDULERS, ModelOffer, scheduler_id
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import MAX_SEED, Prompt, Reference, SchedulerName, Seed, Side, Text
from darkroom.tasks.requests.base import JobRequest
from darkroom.tasks.sizes import format_faults, size_faults
from darkroom.tasks.tokens import least_tokens

OutputFormat = Literal["png", "jpeg", "webp"]


class Prompted(JobRequest):
    """Words for what to make, and how far they are followed."""

    prompt: Prompt = Field(description="what to make")
    negative_prompt: Text | None = Field(
        default=None, description="what to keep out; None and the empty text differ for SDXL"
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=30,
        allow_inf_nan=False,
        description="how far the prompt is followed; up to 1: not at all",
    )

    def faults(self, offer: ModelOffer) -> Iterator[Fault]:
        """Texts that are too long."""
        yield from super().faults(offer)
        most = offer.limits.max_prompt_chars
        for field in ("prompt", "negative_prompt"):
            text = getattr(self, field)
            if text is not None and len(text) > most:
                yield Fault(field, "too_long", f"{len(text)} characters, at most {most} are allowed")

    def warnings(self, offer: ModelOffer) -> Iterator[str]:
        """`prompt_truncated`, `negative_prompt_ignored`.

        `prompt_truncated`: the text encoders certainly do not read a prompt to its end. A lower bound: the worker has
        the tokenizer, and adds the warning to the result. `negative_prompt_ignored`: without guidance it has no say.
        """
        yield from super().warnings(offer)
        scale = offer.defaults.guidance_scale if self.guidance_scale is None else self.guidance_scale
        negative, guided = self.negative_prompt or "", scale > 1  # diffusers' rule
        if any(least_tokens(text) > offer.prompt_tokens for text in (self.prompt, negative if guided else "")):
            yield "prompt_truncated"
        if negative and not guided:
            yield "negative_prompt_ignored"

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The model's guidance."""
        return super().filled(offer) | defaults(self, offer, "guidance_scale")


class Sampled(JobRequest):
    """How noise becomes a picture."""

    num_inference_steps: int | None = Field(default=None, ge=1, le=1000, description="denoising steps")
    scheduler: SchedulerName | None = Field(default=None, description='such as euler, "DPM++ 2M Karras"')

    def faults(self, offer: ModelOffer) -> Iterator[Fault]:
        """Too many steps, for the model or for the scheduler, and schedulers that do not fit."""
        yield from super().faults(offer)
        steps, limit = self.num_inference_steps or offer.defaults.num_inference_steps, offer.limits.max_steps
        scheduler = scheduler_id(self.scheduler or offer.defaults.scheduler)
        label = SCHEDULERS[scheduler][0]
        if steps > limit:
            yield Fault("num_inference_steps", "too_large", f"{offer.name} allows at most {limit}")
        elif steps > (most := MOST_STEPS.get(scheduler, limit)):
            yield Fault("num_inference_steps", "too_large", f"{label} does at most {most}, not {steps}")
        if self.scheduler is not None and scheduler not in offer.schedulers:
            fitting = ", ".join(offer.schedulers)
            reason = f"{label} does not fit {offer.name}; there are: {fitting}"
            yield Fault("scheduler", "scheduler_not_supported", reason)

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The model's steps and scheduler."""
        return super().filled(offer) | defaults(self, offer, "num_inference_steps", "scheduler")


class Seeded(JobRequest):
    """One seed for each picture, fixed at submit."""

    seed: Seed | None = Field(default=None, description="of the first image; the next ones count up from it")
    num_images: int | None = Field(default=None, ge=1, le=256, description="how many images")
    seeds: list[Seed] | None = Field(default=None, min_length=1, max_length=256, description="one per image")

    @property
    def pieces(self) -> int:
        """The pictures."""
        return len(self.seeds) if self.seeds else self.num_images or 1

    def seed_of(self, piece: int) -> int:
        """Of a picture."""
        return (self.seeds or [])[piece]

    def faults(self, offer: ModelOffer) -> Iterator[Fault]:
        """Too many images."""
        yield from super().faults(offer)
        if self.pieces > offer.limits.max_images:
            yield Fault("num_images", "too_large", f"{offer.name} allows at most {offer.limits.max_images} a job")

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """Seeds for all, drawn where none was asked for."""
        seeds = self._drawn()
        return super().filled(offer) | {"seed": None, "seeds": seeds, "num_images": len(seeds)}

    def _drawn(self) -> list[int]:
        if self.seeds is not None:
            return self.seeds
        if self.seed is None:
            return [secrets.randbelow(MAX_SEED + 1) for _ in range(self.pieces)]
        return [(self.seed + i) % (MAX_SEED + 1) for i in range(self.pieces)]

    @field_validator("seeds")
    @classmethod
    def _seeds_fit(cls, seeds: list[int] | None, info: ValidationInfo) -> list[int] | None:
        images = info.data.get("num_images")
        if seeds is not None and info.data.get("seed") is not None:
            raise ValueError("give seed or seeds, not both")
        if seeds is not None and images is not None and images != len(seeds):
            raise ValueError(f"{len(seeds)} seeds for {images} images; give one per image")
        return seeds


class Sized(JobRequest):
    """The size of a picture, and the format of its file."""

    width: Side | None = Field(default=None, description="pixels, a multiple of 8")
    height: Side | None = Field(default=None, description="pixels, a multiple of 8")
    output_format: OutputFormat = Field(default="png", description="the pictures' files")

    def faults(self, offer: ModelOffer) -> Iterator[Fault]:
        """Sizes that the model does not make, or the format does not hold."""
        yield from super().faults(offer)
        yield from size_faults(self.width, self.height, offer)
        yield from format_faults(self.output_format, *self.extent(offer))

    def extent(self, offer: ModelOffer) -> tuple[int, int]:
        """Width and height, 0 where they are the source picture's."""
        return self.width or offer.defaults.width, self.height or offer.defaults.height

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The model's size."""
        return super().filled(offer) | defaults(self, offer, "width", "height")


class FromPicture(Sized):
    """A picture to begin with. Without width and height the result has its size, scaled into the model's limits."""

    inputs: ClassVar[tuple[str, ...]] = ("image",)

    image: Reference = Field(description="a storage key that the tenant may read, a data: URL, or an https: URL")
    strength: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="0 keeps the picture, 1 ignores it"
    )

    def faults(self, offer: ModelOffer) -> Iterator[Fault]:
        """A size that is given by half, too."""
        if (self.width is None) != (self.height is None):
            missing = "width" if self.width is None else "height"
            yield Fault(missing, "missing", "give width and height, or neither to keep the picture's own size")
        yield from super().faults(offer)

    def extent(self, _offer: ModelOffer) -> tuple[int, int]:
        """What was asked for; else nobody knows yet."""
        return self.width or 0, self.height or 0

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The model's strength; its size is the picture's, unless asked for."""
        values = super().filled(offer) | defaults(self, offer, "strength")
        return values | {"width": self.width, "height": self.height}


def defaults(request: JobRequest, offer: ModelOffer, *names: str) -> dict[str, Any]:
    """The model's values of those fields that were left out."""
    return {name: getattr(offer.defaults, name) for name in names if getattr(request, name) is None}
