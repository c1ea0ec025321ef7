"""Latents as files: kept of an image besides its picture, or instead of it, and what a later job begins with."""

from collections.abc import Mapping

import torch

from darkroom.storage.errors import InputUnfit
from darkroom.storage.latents import NAME, open_latents
from darkroom.tasks.catalogue import Limits
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.products import ProducedFile
from darkroom.worker.kinds.tensors import read_tensors
from darkroom.worker.models.scale import LatentSpace

#: How latents lay in memory that began with a picture: a VAE gives other last bits for the other order.
LAYOUT = "channels_last"
#: In the metadata of latents whose denoising was not brought to its end: how much of the noise is gone.
ENDED = "denoising_end"
FACTOR = 8  # pixels of a picture's side for each of its latents'


def latents_file(latents: torch.Tensor, space: LatentSpace, **about: object) -> ProducedFile:
    """A file of latents (1, 4, h/8, w/8) in the scale that schedulers leave them in, and in their own dtype.

    Its metadata say whose they are, the picture's size in pixels, and how they become what the VAE decodes.
    """
    height, width = (FACTOR * side for side in latents.shape[2:])
    if latents.is_contiguous(memory_format=torch.channels_last) and not latents.is_contiguous():
        about["layout"] = LAYOUT
    return ProducedFile.of_tensors(NAME, {NAME: latents}, width=width, height=height, **space.about(), **about)


def read_latents(data: bytes, asked: Asked, space: LatentSpace) -> torch.Tensor:
    """Latents (1, 4, h/8, w/8) of a file, on the host, in the dtype that they have there.

    Raises InputNotLatents, InputCorrupt, and InputUnfit for those of another family, scale or size than the job's.
    """
    found = open_latents(data)
    width, height = FACTOR * found.width, FACTOR * found.height
    faults = [
        *space.differences(found.about),
        *_unfinished(found.about, asked),
        *_size_faults(width, height, asked, asked.limits),
    ]
    if faults:
        raise InputUnfit(f"the latents are not for this job: {'; '.join(faults)}"[:480])
    latents = read_tensors(data)[NAME]
    last = found.about.get("layout") == LAYOUT
    return latents.contiguous(memory_format=torch.channels_last) if last else latents


def _unfinished(about: Mapping[str, object], asked: Asked) -> list[str]:
    end = about.get(ENDED)
    if end is None and asked.denoising_start is not None:
        return ["their denoising has ended, and there is nothing to go on with: an img2img with a strength takes them"]
    if end is None or not asked.scheduler or end == asked.denoising_start:  # to look at any can be decoded
        return []
    return [f"their denoising ended at {end}: go on from there, with denoising_start {end}"]


def size_of(latents: torch.Tensor) -> tuple[int, int]:
    """Width and height of their picture, in pixels."""
    return FACTOR * latents.shape[3], FACTOR * latents.shape[2]


def _size_faults(width: int, height: int, asked: Asked, limits: Limits) -> list[str]:
    found = []
    if asked.width and asked.height and (width, height) != (asked.width, asked.height):
        found.append(f"they are of {width}x{height} pixels, the request is for {asked.width}x{asked.height}")
    sides = (width, height)
    if any(side % limits.grid or not limits.min_side <= side <= limits.max_side for side in sides):
        allowed = f"sides are multiples of {limits.grid} from {limits.min_side} to {limits.max_side}"
        found.append(f"they are of {width}x{height} pixels; {allowed}")
    elif width * height > limits.max_pixels:
        found.append(f"they are of {width}x{height} pixels, over the {limits.max_pixels} that are allowed")
    return found
