"""Families of models and kinds of jobs, by name, and which do not go together."""

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import Field

ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Family = Literal["sdxl", "playground", "sd", "sdxl-refiner"]
Kind = Literal["txt2img", "img2img", "inpaint", "encode", "decode", "interpolate", "embed"]

#: Kinds that models of a family never do, and why.
NOT_OF_FAMILY: Mapping[str, tuple[Collection[str], str]] = {
    "sdxl-refiner": (
        ("txt2img", "inpaint", "interpolate"),
        "a refiner knows little noise alone, and begins with a picture",
    ),
}
