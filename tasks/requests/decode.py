"""A picture of latents."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from darkroom.tasks.fields import Reference
from darkroom.tasks.requests.base import JobRequest
from darkroom.tasks.requests.parts import OutputFormat


class Decode(JobRequest):
    """Make the picture of latents, which an earlier job kept or a client uploaded. Nothing is drawn by lot."""

    inputs: ClassVar[tuple[str, ...]] = ("image",)
    latents: ClassVar[Mapping[str, Literal["also", "only"]]] = {"image": "only"}

    kind: Literal["decode"] = "decode"
    image: Reference = Field(description="the storage key of latents that the tenant may read")
    output_format: OutputFormat = Field(default="png", description="the picture's file")
