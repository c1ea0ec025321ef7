"""Pictures in the style of others: what is looked at of them is how they look, not what is on them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import Listed, Reference, no_number, one_or_several
from darkroom.tasks.requests.base import Rule
from darkroom.tasks.requests.checked import Checked
from darkroom.tasks.requests.handover import HandedOverPicture
from darkroom.tasks.requests.parts import FromPicture, Prompted, Sampled, Seeded

MOST_STYLES = 4
MOST_WEIGHT = 10.0
MOST_SCALE = 2.0

_WEIGHTED = re.compile(r"(.+):([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)", re.IGNORECASE | re.DOTALL)
#: What is meant for a weight, and is none: behind a picture's name anything, else what Python takes for a number.
_NO_WEIGHT = re.compile(r"(.+\.(?:png|jpe?g|webp)):([^/\\:]*)", re.IGNORECASE | re.DOTALL)
_NO_NUMBER = re.compile(r"(.+):([-+]?(?:nan|inf|infinity))", re.IGNORECASE | re.DOTALL)


class Style(Checked):
    """A picture whose style is wanted, and its weight beside the others."""

    model_config = ConfigDict(revalidate_instances="always")

    inputs: ClassVar[tuple[str, ...]] = ("image",)

    image: Reference = Field(description="a storage key that the tenant may read, a data: URL, or an https: URL")
    weight: float = Field(
        default=1.0, gt=0, le=MOST_WEIGHT, allow_inf_nan=False, description="its part in the mean of all"
    )

    @field_validator("weight", mode="before")
    @classmethod
    def _is_no_text(cls, weight: object) -> object:
        if isinstance(weight, str):
            raise no_number(weight, f"above 0, to {MOST_WEIGHT:g},")
        return weight


def style_of(text: str) -> dict[str, Any]:
    """`PICTURE` or `PICTURE:WEIGHT`, as Python's callers and those at a terminal may write it, as a mapping."""
    if found := _WEIGHTED.fullmatch(text):
        with suppress(ValueError):  # such as 1.2.3
            return {"image": found[1], "weight": float(found[2])}
    if found := _NO_WEIGHT.fullmatch(text) or _NO_NUMBER.fullmatch(text):
        return {"image": found[1], "weight": found[2]}
    return {"image": text}


def _from_text(value: object, info: ValidationInfo) -> object:
    return style_of(value) if isinstance(value, str) and info.mode == "python" else value


class Stylize(HandedOverPicture, Seeded, Sampled, FromPicture, Prompted):
    """Make pictures in the style of one to four others: from a prompt alone, or over a picture of your own.

    With an image all is as in img2img; without one as in txt2img. For models that have a style adapter.
    """

    inputs: ClassVar[tuple[str, ...]] = ("image", "styles")
    latents: ClassVar[Mapping[str, Literal["also", "only"]]] = {"image": "also"}

    kind: Literal["stylize"] = "stylize"
    image: Reference | None = Field(  # type: ignore[assignment]
        default=None, description="a picture to begin with; left out, it begins with noise"
    )
    styles: Annotated[list[Annotated[Style, BeforeValidator(_from_text)]], Listed, one_or_several(Style)] = Field(
        min_length=1, max_length=MOST_STYLES, description="a picture whose style is wanted"
    )
    style_scale: float = Field(
        default=1.0, ge=0, le=MOST_SCALE, allow_inf_nan=False, description="how much of their style is taken"
    )
    layout_scale: float = Field(
        default=0.0, ge=0, le=MOST_SCALE, allow_inf_nan=False, description="how much of where things are on them"
    )

    def extent(self, offer: ModelOffer) -> tuple[int, int]:
        """Without a picture as asked for, else the model's."""
        if self.image is not None:
            return super().extent(offer)
        return self.width or offer.defaults.width, self.height or offer.defaults.height

    def asked_strength(self, offer: ModelOffer) -> float:
        """Without a picture all is noise."""
        return 1.0 if self.image is None else super().asked_strength(offer)

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """Without a picture the model's size, and no strength."""
        values = super().filled(offer)
        if self.image is not None:
            return values
        width, height = self.extent(offer)
        return values | {"width": width, "height": height, "strength": None}

    def idle(self, offer: ModelOffer) -> Iterator[Rule]:
        """A strength of what is not there, and styles of which nothing is taken."""
        yield from super().idle(offer)
        yield self._idle_strength_rule()
        yield self._idle_styles_rule()

    def _both_sides_rule(self) -> Rule:
        if self.image is not None:
            yield from super()._both_sides_rule()

    def _idle_strength_rule(self) -> Rule:
        if self.image is None and self.strength is not None:
            yield Fault(
                "strength", "without_image", "is of a picture to begin with: give one as image, or leave it out"
            )

    def _idle_styles_rule(self) -> Rule:
        if self.style_scale == 0 and self.layout_scale == 0:
            reason = "is 0, and so is layout_scale: nothing is taken of the styles"
            yield Fault("style_scale", "no_style", reason)
