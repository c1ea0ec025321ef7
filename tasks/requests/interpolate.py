"""Pictures on the way from one prompt, or one seed, to another."""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import MAX_SEED, Prompt, Seed
from darkroom.tasks.requests.base import Rule
from darkroom.tasks.requests.loras import Adapted
from darkroom.tasks.requests.parts import Sampled, Sized
from darkroom.tasks.requests.prompted import TEXTS, Worded


class Interpolate(Sampled, Sized, Adapted, Worded):
    """Make pictures on the way between two prompts, two seeds, or both.

    The first and the last are the pictures that each end gives by itself.
    """

    texts_by: ClassVar[tuple[str, ...]] = (*TEXTS, "prompt_to")
    without: ClassVar[Mapping[str, str]] = {
        "num_images": "the frames are its pictures",
        "seeds": "it goes from one seed to seed_to",
    }

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

    def seed_of(self, piece: int) -> int:
        """Of a frame."""
        return self.all_seeds[piece]

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """Too many frames, and no second end."""
        yield from super().rules(offer)
        yield self._frames_rule(offer)
        yield self._end_rule()

    def idle(self, offer: ModelOffer) -> Iterator[Rule]:
        """Two ends that are one."""
        yield from super().idle(offer)
        yield self._same_ends_rule()

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The seed, drawn where none was asked for."""
        seed = secrets.randbelow(MAX_SEED + 1) if self.seed is None else self.seed
        return super().filled(offer) | {"seed": seed}

    def _frames_rule(self, offer: ModelOffer) -> Rule:
        if self.frames > (most := offer.limits.max_frames):
            yield Fault("frames", "too_large", f"{offer.name} allows at most {most} frames a job")

    def _end_rule(self) -> Rule:
        if self.prompt_to is None and self.seed_to is None:
            yield Fault("prompt_to", "missing", "give prompt_to, seed_to, or both: else all frames are the same")

    def _same_ends_rule(self) -> Rule:
        given = {"prompt_to": (self.prompt_to, self.prompt), "seed_to": (self.seed_to, self.seed)}
        ends = {field: end == begin for field, (end, begin) in given.items() if end is not None}
        if ends and all(ends.values()):
            for field in ends:
                what = field.removesuffix("_to")
                yield Fault(field, "same_ends", f"is the {what} that is begun with: all frames would be the same")
