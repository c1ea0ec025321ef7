"""The size of what is made."""

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.fields import Side
from darkroom.tasks.requests.base import JobRequest, Rule, defaults
from darkroom.tasks.sizes import area_faults, side_faults


class Measured(JobRequest):
    """The size of what is made."""

    about: ClassVar[str] = "size and file"

    width: Side | None = Field(default=None, description="pixels, a multiple of 8")
    height: Side | None = Field(default=None, description="pixels, a multiple of 8")

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """Sizes that the model does not make."""
        yield from super().rules(offer)
        yield from (self._side_rule(side, offer) for side in ("width", "height"))
        yield self._area_rule(offer)

    def extent(self, offer: ModelOffer) -> tuple[int, int]:
        """Width and height, 0 where they are the source picture's."""
        return self.width or offer.defaults.width, self.height or offer.defaults.height

    def result_size(self, offer: ModelOffer) -> tuple[int, int]:
        """As asked for."""
        return self.extent(offer)

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The model's size."""
        return super().filled(offer) | defaults(self, offer, "width", "height")

    def _side_rule(self, side: str, offer: ModelOffer) -> Rule:
        yield from side_faults(side, getattr(self, side), offer)

    def _area_rule(self, offer: ModelOffer) -> Rule:
        yield from area_faults(self.width, self.height, offer)
