"""What text encoders read for one job."""

from dataclasses import dataclass
from typing import Any, Literal

Syntax = Literal["plain", "compel"]
Long = Literal["cut", "chunk"]


@dataclass(frozen=True, slots=True)
class Words:
    """The prompts, and how they are read: all that their encoding depends on, apart from the model.

    Without `guidance` there is no negative prompt. A negative prompt of None means zeros where the model says
    `force_zeros_for_empty_prompt`. Those named `..._2` are read by a second text encoder, None: as the first reads.
    `long`: of what is longer than an encoder reads, the rest is cut off, or read in chunks of that length. The
    embeddings are `length` long at least, in whole chunks. `loras`: those that change the text encoders.
    """

    prompt: str
    negative_prompt: str | None = None
    guidance: bool = True
    prompt_2: str | None = None
    negative_prompt_2: str | None = None
    clip_skip: int | None = None
    syntax: Syntax = "plain"
    long: Long = "cut"
    length: int = 0
    loras: tuple[Any, ...] = ()  # darkroom.worker.adapters.lora.Use

    def __post_init__(self) -> None:
        # Else diffusers takes zeros for both encoders, and reads nothing of the second one's negative prompt.
        if self.negative_prompt is None and self.negative_prompt_2:
            object.__setattr__(self, "negative_prompt", "")

    def fields(self, encoder: int) -> tuple[str, str]:
        """Where the prompt and the negative one stand that an encoder reads, counted from 0."""
        said = "prompt_2" if encoder and self.prompt_2 else "prompt"
        return said, "negative_prompt_2" if encoder and self.negative_prompt_2 else "negative_prompt"
