"""Rows of pictures: requests that differ in little, made as a worker makes them, and captions of what differs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from darkroom.tasks.requests import Request
from ops.starter.painting import Studio
from ops.starter.scenes import SIDE

NBSP = "\N{NO-BREAK SPACE}"

Fields = Mapping[str, Any]  # of a request
_INPUT = "inputs/default/{}.png"  # for the request's form: the pictures themselves are at hand


@dataclass(frozen=True)
class Shot:
    """A picture, and what is said below it."""

    picture: Image.Image
    caption: str


@dataclass(frozen=True)
class Row:
    """Requests, and the picture that they begin with: one of its own, of which `mask` (left, top, right, bottom)
    is made anew.
    """

    name: str
    asked: Sequence[Fields]
    source: Fields | None = None
    mask: tuple[int, int, int, int] | None = None

    @property
    def heading(self) -> str:
        """What all of its requests ask for."""
        first, *_ = self.asked
        return _said({name: value for name, value in first.items() if name not in self._own and name != "kind"})

    def shots(self, studio: Studio, **fields: Any) -> Iterator[Shot]:
        """The source and the mask, if there are any, and the pictures of all requests; `fields` are what those ask for
        that say nothing else.
        """
        inputs = {}
        if self.source:
            request = studio.resolved(**{**fields, **self.source})
            (inputs["image"],) = studio.develop(request, {})
            yield Shot(inputs["image"], f"the source: {_said(self.source)}")
        if self.mask:
            inputs["mask"] = Image.new("L", (SIDE, SIDE))
            inputs["mask"].paste(255, self.mask)
            yield Shot(inputs["mask"], "the mask")
        for asked in self.asked:
            request = studio.resolved(**{**fields, **asked}, **{name: _INPUT.format(name) for name in inputs})
            for piece, picture in enumerate(studio.develop(request, inputs)):
                yield Shot(picture, self._caption(asked, request, piece))

    @property
    def _own(self) -> list[str]:
        """The fields in which its requests differ."""
        names = dict.fromkeys(name for asked in self.asked for name in asked)
        return [name for name in names if any(asked.get(name) != self.asked[0].get(name) for asked in self.asked)]

    def _caption(self, asked: Fields, request: Request, piece: int) -> str:
        if request.pieces > 1:
            return f"{piece + 1} of {request.pieces}"
        values = request.model_dump(exclude_none=True) | {"seed": request.seed_of(piece), **asked}
        return _said({name: values[name] for name in self._own if name in values})


def _said(values: Fields) -> str:
    """`a red star, seed 1, extend left=64,right=64`; no line ends between a name and its value."""
    if "width" in values:
        rest = {name: value for name, value in values.items() if name not in ("width", "height")}
        values = {"size": f"{values['width']}x{values['height']}", **rest}
    parts = [_value(value) if name == "prompt" else f"{name}{NBSP}{_value(value)}" for name, value in values.items()]
    return ", ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_value(part)}" for name, part in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
