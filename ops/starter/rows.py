"""Rows of pictures: requests that differ in little, made as a worker makes them, and captions of what differs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """Requests, and the pictures that they begin with: a source, of which `mask` (left, top, right, bottom) is made
    anew, and that of a `style`.
    """

    name: str
    asked: Sequence[Fields]
    source: Fields | None = None
    mask: tuple[int, int, int, int] | None = None
    style: Fields | None = None

    @property
    def heading(self) -> str:
        """What all of its requests ask for."""
        first, *_ = self.asked
        return _said({name: value for name, value in first.items() if name not in self._own and name != "kind"})

    def shots(self, studio: Studio, **fields: Any) -> Iterator[Shot]:
        """What they begin with, if there is anything, and the pictures of all requests; `fields` are what those ask for
        that say nothing else.
        """
        inputs: dict[str, Image.Image] = {}
        for place, words, asked in (("styles.0.image", "the style", self.style), ("image", "the source", self.source)):
            if asked:
                (inputs[place],) = studio.develop(studio.resolved(**{**fields, **asked}), {})
                yield Shot(inputs[place], f"{words}: {_said(asked)}")
        if self.mask:
            inputs["mask"] = Image.new("L", (SIDE, SIDE))
            inputs["mask"].paste(255, self.mask)
            yield Shot(inputs["mask"], "the mask")
        for asked in self.asked:
            request = studio.resolved(**{**fields, **asked}, **_named(inputs))
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


def _named(inputs: Iterable[str]) -> Fields:
    """The request's fields for these pictures."""
    found: dict[str, Any] = {name: _INPUT.format(name) for name in inputs if "." not in name}
    styled = any(name.startswith("styles.") for name in inputs)
    return {**found, "styles": [_INPUT.format("style")]} if styled else found


def _said(values: Fields) -> str:
    """`a red star, seed 1, extend left=64,right=64`; no line ends between a name and its value."""
    if "width" in values:
        rest = {name: value for name, value in values.items() if name not in ("width", "height")}
        values = {"size": f"{values['width']}x{values['height']}", **rest}
    parts = [_value(value) if name == "prompt" else f"{name}{NBSP}{_value(value)}" for name, value in values.items()]
    return ", ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_value, value)) or "none"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_value(part)}" for name, part in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
