"""Pictures on the way from one prompt, or one seed, to another."""

import secrets
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import MAX_SEED, Prompt, Seed
from darkroom.tasks.requests.parts import Sampled, Sized
from darkroom.tasks.requests.prompted import Worded


class Interpolate(Sampled, Sized, Worded):
    """Make pictures on the way between two prompts, two seeds, or both.

    The first and the last are the pictures that each end gives by itself.
    """

    kind: Literal["interpolate"] = "interpolate"
    frames: int = Field(ge=2, le=256, description="pictures, those of both ends among them")
    prompt_to: Prompt | None = Field(default=None, description="the prompt of the last frame; default: the first one's")
    seed: Seed | None = Field(default=None, description="of the first frame")
    seed_to: Seed | None = Field(default=None, description="of the last frame; default: the first one's")

    @property
    def pieces(self) -> int:
        """The frames."""
        return self.frames

    @property
    def all_seeds(self) -> list[int]:
        """The first seed for all but the last frame."""
        first = self.seed or 0
        return [first] * (self.frames - 1) + [first if self.seed_to is None else self.seed_to]

    @property
    def texts(self) -> dict[str, str]:
        """The prompt of the last frame, too."""
        return super().texts | ({"prompt_to": self.prompt_to} if self.prompt_to is not None else {})

    def seed_of(self, piece: int) -> int:
        """Of a frame."""
        return self.all_seeds[piece]

    def faults(self, offer: ModelOffer) -> Iterator[Fault]:
        """Too many frames, and two ends that are one. Where `frames` is at fault itself it is None."""
        yield from super().faults(offer)
        if (self.frames or 0) > (most := offer.limits.max_frames):
            yield Fault("frames", "too_large", f"{offer.name} allows at most {most} frames a job")
        if self.prompt_to is None and self.seed_to is None:
            yield Fault("prompt_to", "missing", "give prompt_to, seed_to, or both: else all frames are the same")

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The seed, drawn where none was asked for."""
        seed = secrets.randbelow(MAX_SEED + 1) if self.seed is None else self.seed
        return super().filled(offer) | {"seed": seed}
