"""Parts of a picture made anew, and ground beyond its edges."""

from collections.abc import Mapping
from typing import Any, ClassVar

from PIL import Image, ImageOps

from darkroom.storage.errors import MaskEmpty, MaskUnfit
from darkroom.storage.images import open_mask
from darkroom.tasks.catalogue import Limits, ModelEntry
from darkroom.tasks.errors import InvalidRequest
from darkroom.tasks.requests import Extend, Inpaint, JobRequest
from darkroom.tasks.sizes import format_faults, kept_size_faults
from darkroom.worker.kinds.base import Kind, PreparedJob, Run, Sources
from darkroom.worker.kinds.canvas import (
    Box,
    Canvas,
    Size,
    drawn_out,
    feathered,
    frame_around,
    halved,
    whole_frame,
)
from darkroom.worker.kinds.kept import kept
from darkroom.worker.kinds.products import Produced
from darkroom.worker.kinds.sources import MOST_PIXELS, naming, read_picture

_CANVAS = "canvas"  # what is made of the inputs
_MARKS = {
    "auto": "white is made anew, or what is transparent where there is any",
    "luminance": "white is made anew, by half at least",
    "alpha": "what is transparent is made anew, by half at least",
}


class InpaintKind(Kind):
    """From a picture, of which all stays but what is masked; the model works at all of it, or around the mask alone."""

    request = Inpaint
    trial_fields: ClassVar[dict[str, Any]] = {"strength": 0.5}

    def read_sources(self, prepared: PreparedJob, inputs: Mapping[str, bytes], most_pixels: int) -> Sources:
        """The canvas, made once for all pieces. Raises InputError, and InvalidRequest for a result that cannot be."""
        request = _inpaint(prepared.request)
        with naming("image"):
            picture = read_picture(inputs["image"], most_pixels)
        mask = None
        if "mask" in inputs:
            with naming("mask"), open_mask(inputs["mask"], request.mask_channel, max_pixels=most_pixels) as opened:
                mask = halved(opened)
        return {_CANVAS: lay_out(request, prepared.asked.limits, picture, mask, most_pixels)}

    def make(self, prepared: PreparedJob, sources: Sources, run: Run) -> Produced:
        """What is kept of the image of the run's seed; latents are those of what the model worked at."""
        asked, canvas = prepared.asked, sources[_CANVAS]
        if asked.steps < 1:
            if "latents" not in asked.output:
                return Produced(canvas.finished(run.round_trip(canvas.source)))
            return kept(
                prepared, run, run.encode(canvas.source), lambda: canvas.finished(run.round_trip(canvas.source))
            )
        latents = run.latents(
            "inpaint",
            asked,
            prepared.conditioning,
            image=canvas.source,
            mask_image=canvas.blocks,
            strength=asked.strength,
            width=canvas.source.width,
            height=canvas.source.height,
        )
        return kept(prepared, run, latents, lambda: canvas.finished(run.decode(latents)))

    def facts(self, prepared: PreparedJob) -> dict[str, object]:
        """By the names that AUTOMATIC1111's web UI gave them."""
        request = _inpaint(prepared.request)
        padding = {} if request.padding is None else {"Masked area padding": request.padding}
        return {"Denoising strength": f"{prepared.asked.strength:g}", "Mask blur": request.mask_blur, **padding}

    def trial(self, entry: ModelEntry, width: int, height: int) -> tuple[JobRequest, Sources]:
        """Two steps of a picture of this size."""
        request, _ = super().trial(entry, width, height)
        picture, mask = Image.new("RGB", (width, height)), Image.new("L", (width, height), 255)
        return request, {_CANVAS: lay_out(_inpaint(request), entry.limits, picture, mask)}


def lay_out(
    request: Inpaint,
    limits: Limits,
    picture: Image.Image,
    mask: Image.Image | None,
    most_pixels: int = MOST_PIXELS,
) -> Canvas:
    """The canvas of a picture (RGB) and its mask (L, 0 or 255), if any, in their own sizes of `most_pixels` at most.

    Raises MaskUnfit, MaskEmpty, and InvalidRequest where the result would be larger than its file and record hold,
    or what is worked at far larger than a picture may be.
    """
    extend = request.extend
    if mask is not None and mask.size != picture.size:
        mask = _of_size(mask, picture.size)
    if request.width and request.height:
        size = request.width - (extend.across if extend else 0), request.height - (extend.down if extend else 0)
        picture = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
        mask = mask and halved(ImageOps.fit(mask, size, Image.Resampling.BILINEAR))
    ground = _ground(picture.size, extend)
    _check_size(request, _extent(ground))
    marked = drawn_out(picture, ground), _on_ground(mask, picture.size, ground)
    covered = feathered(marked[1], request.mask_blur)
    touched = covered.getbbox()
    if touched is None:
        raise MaskEmpty("the mask marks no pixel of the picture", hint=_MARKS[request.mask_channel])
    if request.padding is None:
        frame = whole_frame(marked[0].size, limits)
    else:
        width, height = request.work_size or marked[0].size
        frame = frame_around(touched, marked[0].size, request.padding, (width, height))
    if faults := [*frame.faults(most_pixels)]:
        raise InvalidRequest(faults)
    return Canvas(marked[0], covered, frame, request.preserve_unmasked)


def _of_size(mask: Image.Image, size: Size) -> Image.Image:
    """A mask that is a smaller or larger picture of the same: its sides are those but for rounding."""
    long, short = (0, 1) if size[0] >= size[1] else (1, 0)
    if abs(mask.size[short] - size[short] * mask.size[long] / size[long]) >= 1:
        named = [f"{one[0]}x{one[1]}" for one in (mask.size, size)]
        raise MaskUnfit(f"the mask has {named[0]} pixels, which are other proportions than the picture's {named[1]}")
    return halved(mask.resize(size, Image.Resampling.BILINEAR))


def _ground(size: Size, extend: Extend | None) -> Box:
    """The canvas, as a box of the picture that it reaches beyond."""
    if extend is None:
        return 0, 0, *size
    return -extend.left, -extend.top, size[0] + extend.right, size[1] + extend.bottom


def _extent(box: Box) -> Size:
    return box[2] - box[0], box[3] - box[1]


def _on_ground(mask: Image.Image | None, size: Size, ground: Box) -> Image.Image:
    """The mask of the canvas: all ground beyond the picture is new."""
    out = Image.new("L", _extent(ground), 255)
    out.paste(mask or Image.new("L", size), (-ground[0], -ground[1]))
    return out


def _check_size(request: Inpaint, size: Size) -> None:
    if not request.preserve_unmasked:
        return
    if faults := [*kept_size_faults(*size)] or [*format_faults(request.output_format, *size)]:
        raise InvalidRequest(faults)


def _inpaint(request: JobRequest) -> Inpaint:
    assert isinstance(request, Inpaint)
    return request
