"""A field and a kind that no release has: what a job needs is tried with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, cast

import pytest
from pydantic import BaseModel, Field

from darkroom.tasks import Txt2Img
from darkroom.tasks.catalogue import ModelName
from darkroom.tasks.needs import FurtherModel
from darkroom.tasks.requests import KINDS


class Sparks(BaseModel):
    """A part of a request that names a model."""

    model: Annotated[ModelName | None, FurtherModel()] = None
    number: int = 1


class Glowing(Txt2Img):
    """A picture from a prompt, as a later release knows it."""

    glow: float = 0
    tags: list[str] = Field(default_factory=list)
    helper: Annotated[ModelName | None, FurtherModel()] = None
    sparks: Sparks | None = None


class Toy(Txt2Img):
    """A kind of a later release; `wheels` it has had from the first."""

    kind: Literal["toy"] = "toy"  # type: ignore[assignment]
    wheels: int
    paint: str = "red"


@contextmanager
def later_release() -> Iterator[None]:
    """This process knows both; `glow` is a field of `txt2img`."""
    kinds = cast("dict[str, Any]", KINDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(kinds, "txt2img", Glowing)
        patch.setitem(kinds, "toy", Toy)
        yield
