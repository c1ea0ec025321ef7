"""Sizes of pictures: what a model makes, and what a format of files holds."""

from collections.abc import Iterator

from darkroom.tasks.catalogue import Limits, ModelOffer
from darkroom.tasks.errors import Fault

#: Pixels a side that an output format can hold, where models may make more.
LONGEST_SIDE = {"webp": 16_383}


def source_limits(output_format: str, limits: Limits) -> Limits:
    """The limits that a source picture is scaled into where no size is asked for: the model's, and the format's."""
    most = LONGEST_SIDE.get(output_format, limits.max_side)
    return limits.model_copy(update={"max_side": min(limits.max_side, most)})


def format_faults(output_format: str, width: int, height: int) -> Iterator[Fault]:
    """What keeps a file of this format from holding a picture of this size."""
    longest, most = max(width, height), LONGEST_SIDE.get(output_format)
    if most and longest > most:
        reason = f"{output_format} holds at most {most} pixels a side, not {longest}; png holds more"
        yield Fault("output_format", "too_large", reason)


def size_faults(width: int | None, height: int | None, offer: ModelOffer) -> Iterator[Fault]:
    """What keeps the model from making pictures of this size; a side that is None is the model's own."""
    limits, defaults = offer.limits, offer.defaults
    for field, side in (("width", width), ("height", height)):
        if side is None:
            continue
        if side % limits.grid:
            near = max(limits.grid, round(side / limits.grid) * limits.grid)
            yield Fault(field, "off_grid", f"{side} is not a multiple of {limits.grid}; {near} is near")
        if not limits.min_side <= side <= limits.max_side:
            yield Fault(field, "out_of_range", f"{side} is not within {limits.min_side} to {limits.max_side} pixels")
    if not (width or height):
        return
    width, height = width or defaults.width, height or defaults.height
    if width * height > limits.max_pixels:
        yield Fault("width", "too_many_pixels", f"{width}x{height} is over {offer.name}'s {limits.max_pixels} pixels")
