"""Parts of a picture made anew, and ground beyond its edges."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import Extent as Pair
from darkroom.tasks.fields import Reference
from darkroom.tasks.requests.base import Rule
from darkroom.tasks.requests.checked import Checked
from darkroom.tasks.requests.parts import FromPicture, Prompted, Sampled, Seeded
from darkroom.tasks.sizes import extension_faults, size_faults

MaskChannel = Literal["auto", "luminance", "alpha"]


class Extend(Checked):
    """Pixels of new ground at each side of a picture; at least one side has some."""

    left: int = Field(default=0, ge=0, le=16_384)
    top: int = Field(default=0, ge=0, le=16_384)
    right: int = Field(default=0, ge=0, le=16_384)
    bottom: int = Field(default=0, ge=0, le=16_384)

    @property
    def across(self) -> int:
        """Pixels that the width grows by."""
        return self.left + self.right

    @property
    def down(self) -> int:
        """Pixels that the height grows by."""
        return self.top + self.bottom

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not (self.across or self.down):
            raise ValueError("is 0 at every side: give at least one of left, top, right and bottom")
        return self


_HALF = "the picture is blended in after each step, which the other half would know nothing of: refine the result"


class Inpaint(Seeded, Sampled, FromPicture, Prompted):
    """Make anew what a mask covers, and new ground around a picture; all else stays as it is, bit for bit.

    Without width and height the result has the picture's size, however odd, and what `extend` adds.
    """

    inputs: ClassVar[tuple[str, ...]] = ("image", "mask")
    without: ClassVar[Mapping[str, str]] = {
        "hires": "what is not masked stays, bit for bit, at its own size; a second pass would make it anew: enlarge "
        "the result by an img2img with hires",
        "refiner": _HALF,
        "denoising_start": _HALF,
        "denoising_end": _HALF,
    }

    kind: Literal["inpaint"] = "inpaint"
    mask: Reference | None = Field(
        default=None, description="what to make anew: a picture of the image's proportions; may be the image itself"
    )
    mask_channel: MaskChannel = Field(
        default="auto", description="what of it counts: luminance (white is made anew) or alpha (0 is made anew)"
    )
    mask_blur: int = Field(default=8, ge=0, le=64, description="pixels around the mask in which new fades into old")
    padding: int | None = Field(
        default=None, ge=0, le=4096, description="work on the mask and so many pixels around it alone, at work_size"
    )
    work_size: Pair | None = Field(
        default=None, description="width and height that this part is worked at; default: the model's"
    )
    extend: Extend | None = Field(default=None, description="pixels of new ground by side: left=64,right=64")
    preserve_unmasked: bool = Field(default=True, description="keep the picture's own pixels outside of the mask")

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """What does not go together, too, and extensions that the model does not make."""
        yield from super().rules(offer)
        yield from (self._mask_rule(), self._channel_rule(), self._padding_rule())
        yield from (self._work_rule(), self._work_size_rule(offer), self._extension_rule(offer))

    def idle(self, offer: ModelOffer) -> Iterator[Rule]:
        """What is done to a picture that is not kept."""
        yield from super().idle(offer)
        yield self._idle_preserving_rule()

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """Full strength: what is made anew is new. A part is worked at the model's size."""
        values = super().filled(offer) | ({"strength": 1.0} if self.strength is None else {})
        if self.padding is None or self.work_size is not None:
            return values
        return values | {"work_size": [offer.defaults.width, offer.defaults.height]}

    def _mask_rule(self) -> Rule:
        if self.mask is None and self.extend is None:
            yield Fault("mask", "missing", "give a mask, or with extend new ground: nothing is to be made")

    def _channel_rule(self) -> Rule:
        if self.mask is None and self.mask_channel != "auto":
            yield Fault("mask_channel", "without_mask", "there is no mask to be read so")

    def _padding_rule(self) -> Rule:
        if self.padding is not None and not self.preserve_unmasked:
            yield Fault("padding", "not_preserved", "a part is put back into the picture, which must be preserved")

    def _work_rule(self) -> Rule:
        if self.work_size is not None and self.padding is None:
            yield Fault("work_size", "without_padding", "is for work on a part of the picture: give padding, too")

    def _work_size_rule(self, offer: ModelOffer) -> Rule:
        if self.work_size is None:
            return
        width, height = self.work_size
        for fault in size_faults(width, height, offer):
            yield Fault("work_size", fault.code, f"{fault.field}: {fault.message}")

    def _extension_rule(self, offer: ModelOffer) -> Rule:
        if self.extend:
            yield from extension_faults((self.width, self.height), (self.extend.across, self.extend.down), offer)

    def _idle_preserving_rule(self) -> Rule:
        if not self.preserve_unmasked and "image" not in self.output:
            reason = "is about the picture, and none is kept: add image to output, or leave it out"
            yield Fault("preserve_unmasked", "no_picture", reason)
