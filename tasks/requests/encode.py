"""Latents of a picture."""

from typing import Literal

from darkroom.tasks.requests.parts import OfPicture


class Encode(OfPicture):
    """Make the latents of a picture: a file of the role `latents`, which later jobs begin with as with a picture.

    Without width and height they are of the picture's size, scaled into the model's limits. Nothing is drawn by lot.
    """

    kind: Literal["encode"] = "encode"
