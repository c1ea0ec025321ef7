"""Sizes of pictures: what a model makes, and what a format of files holds."""

from collections.abc import Iterator

from darkroom.tasks.catalogue import Limits, ModelOffer
from darkroom.tasks.errors import Fault

#: Pixels a side that a picture has at most, in records and manifests as in what models make.
MOST_SIDE = 16_384
#: The same of an output format that holds less.
LONGEST_SIDE = {"webp": 16_383}


def source_limits(output_format: str, limits: Limits) -> Limits:
    """The limits that a source picture is scaled into where no size is asked for: the model's, and the format's."""
    most = LONGEST_SIDE.get(output_format, limits.max_side)
    return limits.model_copy(update={"max_side": min(limits.max_side, most)})


def enlarged(width: int, height: int, scale: float, limits: Limits) -> tuple[int, int]:
    """A size (pixels) times `scale`, each side rounded down to the grid."""
    grid = limits.grid
    across, down = (int(side * scale / grid + 1e-6) * grid for side in (width, height))
    return across, down


def before_enlargement(scale: float, limits: Limits) -> Limits:
    """The limits of what is to be enlarged so, for the result to be within these."""
    side, pixels = int(limits.max_side / scale + 1e-6), int(limits.max_pixels / scale**2 + 1e-6)
    return limits.model_copy(update={"max_side": side, "max_pixels": pixels})


def enlargement_faults(output_format: str, width: int, height: int, scale: float, offer: ModelOffer) -> Iterator[Fault]:
    """What keeps a picture of this size from being enlarged so. Without a size: what keeps every picture."""
    limits = source_limits(output_format, offer.limits)
    least = -(-limits.min_side // limits.grid) * limits.grid
    first = f"{width}x{height}" if width and height else f"even {least}x{least}"
    across, down = enlarged(width or least, height or least, scale, limits)
    if max(across, down) > limits.max_side:
        reason = f"{first} times {scale:g} has {max(across, down)} pixels a side, at most {limits.max_side} are made"
        yield Fault("hires.scale", "too_large", reason)
    elif across * down > limits.max_pixels:
        reason = f"{first} times {scale:g} is {across}x{down}, over {offer.name}'s {limits.max_pixels} pixels"
        yield Fault("hires.scale", "too_many_pixels", reason)


def kept_size_faults(width: int, height: int) -> Iterator[Fault]:
    """What keeps a result that has its picture's own size from being recorded."""
    if max(width, height) > MOST_SIDE:
        reason = f"has {width}x{height} pixels, and so would the result: {MOST_SIDE} a side are the most; scale it down"
        yield Fault("image", "too_large", reason)


def format_faults(output_format: str, width: int, height: int) -> Iterator[Fault]:
    """What keeps a file of this format from holding a picture of this size."""
    longest, most = max(width, height), LONGEST_SIDE.get(output_format)
    if most and longest > most:
        reason = f"{output_format} holds at most {most} pixels a side, not {longest}; png holds more"
        yield Fault("output_format", "too_large", reason)


def extension_faults(size: tuple[int | None, int | None], grown: tuple[int, int], offer: ModelOffer) -> Iterator[Fault]:
    """What keeps a picture from growing by so many pixels across and down: the model makes no more of them at once.

    `size` is that of the result, None where it is the picture's, which may be of any, with what it grows by.
    """
    most = offer.limits.max_side
    for side, more, named in zip(size, grown, ("left and right", "top and bottom"), strict=True):
        if side is not None and more >= side:
            yield Fault("extend", "too_large", f"{named} are {more} of {side} pixels: none are left for the picture")
        elif side is None and more > most:
            reason = f"{named} are {more} pixels of new ground: {most} are the most that {offer.name} makes in one job"
            yield Fault("extend", "too_large", reason)


def size_faults(width: int | None, height: int | None, offer: ModelOffer) -> Iterator[Fault]:
    """What keeps the model from making pictures of this size; a side that is None is the model's own."""
    yield from side_faults("width", width, offer)
    yield from side_faults("height", height, offer)
    yield from area_faults(width, height, offer)


def side_faults(field: str, side: int | None, offer: ModelOffer) -> Iterator[Fault]:
    """What keeps the model from making pictures of which one side, named by its field, has so many pixels."""
    limits = offer.limits
    if side is None:
        return
    if side % limits.grid:
        near = max(limits.grid, round(side / limits.grid) * limits.grid)
        yield Fault(field, "off_grid", f"{side} is not a multiple of {limits.grid}; {near} is near")
    if not limits.min_side <= side <= limits.max_side:
        yield Fault(field, "out_of_range", f"{side} is not within {limits.min_side} to {limits.max_side} pixels")


def area_faults(width: int | None, height: int | None, offer: ModelOffer) -> Iterator[Fault]:
    """What keeps the model from making so many pixels; a side that is None is the model's own."""
    limits, defaults = offer.limits, offer.defaults
    if not (width or height):
        return
    width, height = width or defaults.width, height or defaults.height
    if width * height > limits.max_pixels:
        yield Fault("width", "too_many_pixels", f"{width}x{height} is over {offer.name}'s {limits.max_pixels} pixels")


def square_faults(prompts: str, side: int, offer: ModelOffer) -> Iterator[Fault]:
    """What keeps the model from making the squares of this side that a training's field of prompts asks for."""
    if side**2 > (most := offer.limits.max_pixels):
        reason = f"{prompts} ask for {side}x{side}, over {offer.name}'s {most} pixels"
        yield Fault("resolution", "too_many_pixels", reason)
