"""Pictures from a prompt."""

from typing import Literal

from darkroom.tasks.requests.handover import HandedOver
from darkroom.tasks.requests.parts import Prompted, Sampled, Seeded, Sized


class Txt2Img(HandedOver, Seeded, Sampled, Sized, Prompted):
    """Make pictures from a prompt."""

    kind: Literal["txt2img"] = "txt2img"
