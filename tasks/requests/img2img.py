"""Pictures from a picture and a prompt."""

from typing import Literal

from darkroom.tasks.requests.hires import Enlarged
from darkroom.tasks.requests.parts import FromPicture, Prompted, Sampled, Seeded


class Img2Img(Enlarged, Seeded, Sampled, FromPicture, Prompted):
    """Make pictures from a picture and a prompt.

    Without width and height the result has the picture's size, scaled into the model's limits.
    """

    kind: Literal["img2img"] = "img2img"
