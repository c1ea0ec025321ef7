"""Pictures from a picture and a prompt."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from darkroom.tasks.requests.handover import HandedOverPicture
from darkroom.tasks.requests.parts import FromPicture, Prompted, Sampled, Seeded


class Img2Img(HandedOverPicture, Seeded, Sampled, FromPicture, Prompted):
    """Make pictures from a picture and a prompt.

    The picture may be given as latents, which are not encoded again. Without width and height the result
    has the picture's size, scaled into the model's limits.
    """

    latents: ClassVar[Mapping[str, Literal["also", "only"]]] = {"image": "also"}

    kind: Literal["img2img"] = "img2img"
