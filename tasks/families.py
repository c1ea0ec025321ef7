"""Families of models and kinds of jobs, by name, and which do not go together."""

from collections.abc import Collection, Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
ModelName = Annotated[str, Field(pattern=NAME)]
Family = Literal["sdxl", "playground", "sd", "sdxl-refiner"]
Kind = Literal["txt2img", "img2img", "inpaint", "encode", "decode", "interpolate", "embed", "stylize", "finetune"]

#: Kinds that models of a family never do, and why.
NOT_OF_FAMILY: Mapping[str, tuple[Collection[str], str]] = {
    "sdxl-refiner": (
        ("txt2img", "inpaint", "interpolate", "stylize", "finetune"),
        "a refiner knows little noise alone, and begins with a picture",
    ),
}


def kinds_of(family: str) -> set[str]:
    """All that models of the family do."""
    never, _ = NOT_OF_FAMILY.get(family, ((), ""))
    return set(get_args(Kind)) - set(never)
