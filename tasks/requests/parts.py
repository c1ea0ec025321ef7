"""What several kinds have in common: groups of fields, each with its limits, its defaults and its warnings."""

import secrets
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from darkroom.tasks.catalogue import NOT_OF_FAMILY, ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import MAX_SEED, Listed, Reference, Seed
from darkroom.tasks.requests.base import JobRequest, Rule, defaults
from darkroom.tasks.requests.measured import Measured
from darkroom.tasks.requests.prompted import Prompted
from darkroom.tasks.requests.sampled import Output, Sampled
from darkroom.tasks.sizes import format_faults

__all__ = ["FromPicture", "Output", "OutputFormat", "Prompted", "Sampled", "Seeded", "Sized"]

OutputFormat = Literal["png", "jpeg", "webp"]


class Seeded(JobRequest):
    """One seed for each picture, fixed at submit."""

    about: ClassVar[str] = "number and seeds"

    seed: Seed | None = Field(default=None, description="of the first image; the next ones count up from it")
    num_images: int | None = Field(default=None, ge=1, le=256, description="how many images")
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=256), Listed] | None = Field(
        default=None, description="one per image"
    )

    @property
    def pieces(self) -> int:
        """The pictures."""
        return len(self.seeds) if self.seeds else self.num_images or 1

    @property
    def all_seeds(self) -> list[int]:
        """Of the pictures."""
        return self.seeds or []

    def seed_of(self, piece: int) -> int:
        """Of a picture."""
        return self.all_seeds[piece]

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """Too many images."""
        yield from super().rules(offer)
        yield self._images_rule(offer)

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """Seeds for all, drawn where none was asked for."""
        seeds = self._drawn()
        return super().filled(offer) | {"seed": None, "seeds": seeds, "num_images": len(seeds)}

    def _images_rule(self, offer: ModelOffer) -> Rule:
        if self.pieces > offer.limits.max_images:
            yield Fault("num_images", "too_large", f"{offer.name} allows at most {offer.limits.max_images} a job")

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


class Sized(Measured):
    """The size of a picture, and the format of its file."""

    output_format: OutputFormat = Field(default="png", description="the pictures' files")

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """Sizes that the format does not hold, too."""
        yield from super().rules(offer)
        yield self._format_rule(offer)

    def idle(self, offer: ModelOffer) -> Iterator[Rule]:
        """The format of files that are not made."""
        yield from super().idle(offer)
        yield self._idle_format_rule()

    def _format_rule(self, offer: ModelOffer) -> Rule:
        yield from format_faults(self.output_format, *self.extent(offer))

    def _idle_format_rule(self) -> Rule:
        if self.output_format != "png" and "image" not in getattr(self, "output", ["image"]):
            yield Fault("output_format", "no_picture", "is the pictures', and none are kept: add image to output")


class OfPicture(Measured):
    """A picture to begin with. Without width and height the result has its size, scaled into the model's limits."""

    about: ClassVar[str] = "a picture to begin with"

    inputs: ClassVar[tuple[str, ...]] = ("image",)

    image: Reference = Field(description="a storage key that the tenant may read, a data: URL, or an https: URL")

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """A size that is given by half, too."""
        yield self._both_sides_rule()
        yield from super().rules(offer)

    def extent(self, _offer: ModelOffer) -> tuple[int, int]:
        """What was asked for; else nobody knows yet."""
        return self.width or 0, self.height or 0

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The size is the picture's, unless asked for."""
        return super().filled(offer) | {"width": self.width, "height": self.height}

    def _both_sides_rule(self) -> Rule:
        if (self.width is None) != (self.height is None):
            missing = "width" if self.width is None else "height"
            yield Fault(missing, "missing", "give width and height, or neither to keep the picture's own size")


class FromPicture(OfPicture, Sized):
    """A picture to begin with, and how much of it is kept."""

    about: ClassVar[str] = "a picture to begin with"

    strength: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="0 keeps the picture, 1 ignores it"
    )

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """A strength at which nothing is left of the picture, for models that need one."""
        yield from super().rules(offer)
        yield self._from_noise_rule(offer)

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The model's strength."""
        return super().filled(offer) | defaults(self, offer, "strength")

    def _from_noise_rule(self, offer: ModelOffer) -> Rule:
        if self.strength == 1 and "txt2img" in NOT_OF_FAMILY.get(offer.family, ((), ""))[0]:
            yield Fault(
                "strength", "too_large", f"is 1, which begins with noise alone: {NOT_OF_FAMILY[offer.family][1]}"
            )
