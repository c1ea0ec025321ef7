"""What is kept of an image: its picture, its latents, or both, as the request says."""

from collections.abc import Callable

import torch
from PIL import Image

from darkroom.worker.kinds.base import PreparedJob, Run
from darkroom.worker.kinds.latents import ENDED
from darkroom.worker.kinds.products import Produced


def kept(
    prepared: PreparedJob, run: Run, latents: torch.Tensor, picture: Callable[[], Image.Image] | None = None
) -> Produced:
    """The picture of latents and their file, as far as they are asked for; for latents alone nothing is decoded.

    `picture` makes it where it is another than the decoded latents.
    """
    output = prepared.asked.output
    image = (picture() if picture else run.decode(latents)) if "image" in output else None
    end = prepared.asked.denoising_end if not prepared.asked.refiner else None
    about = {"seed": run.seed, **({} if end is None else {ENDED: end})}
    return Produced(image, [run.file_of(latents, **about)] if "latents" in output else [])
