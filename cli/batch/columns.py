"""The columns of a table as fields of requests, and cells as their values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

from darkroom.cli.batch.lines import ID_FIELD, FileRefused, shown
from darkroom.cli.fields import FieldOption, kind_option
from darkroom.cli.reading import number, read_json
from darkroom.tasks.requests import KINDS

_HEADER = (
    f"the first line names the columns, such as {ID_FIELD},prompt,seed; their names are those of a request's fields"
)


@dataclass(frozen=True, slots=True)
class Column:
    """A field, or a part of one (`hires.scale`); `option` knows how its values are written, if it is no id."""

    name: str
    option: FieldOption | None = None

    def put(self, fields: dict[str, Any], text: str) -> None:
        """Writes a cell's value among the fields."""
        field, _, part = self.name.partition(".")
        if self.option is None:
            fields[field] = text
        elif part:
            fields.setdefault(field, {})[part] = _typed(text, self.option.schema.get("properties", {}).get(part, {}))
        else:
            fields[field] = _value(text, self.option)


def columns(header: Sequence[str], number: int = 1) -> list[Column]:
    """Those that a header in this line names. Raises FileRefused where it is none, or names what no request has."""
    names = [name.strip() for name in header]
    unknown = [name for name in names if name != ID_FIELD and not _is_field(name)]
    if len(unknown) == len(names) or "" in names[: len(names) - 1] or not names:
        raise FileRefused(f"line {number} is no header: {shown(','.join(header))}", hint=_hint(header))
    if unknown:
        near = get_close_matches(unknown[0], _fields(), n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise FileRefused(
            f"line {number}: {', '.join(map(shown, unknown))}: no field of a request", hint=f"{meant}{_HEADER}"
        )
    wholes = {name.partition(".")[0] for name in names if "." in name}
    if twice := [name for at, name in enumerate(names) if name in names[:at] or name in wholes]:
        raise FileRefused(f"line {number}: {', '.join(map(shown, twice))}: two columns of one field")
    return [Column(name, _fields().get(name.partition(".")[0])) for name in names]


def _hint(header: Sequence[str]) -> str:
    other = next((sign for sign in ";\t|" if any(sign in name for name in header)), None)
    return f"{'its cells are separated by commas; ' if other else ''}{_HEADER}"


def _is_field(name: str) -> bool:
    field, dot, part = name.partition(".")
    option = _fields().get(field)
    if option is None or not dot:
        return option is not None
    parts = option.schema.get("properties")
    return bool(part) and option.schema.get("type") == "object" and (parts is None or part in parts)


@cache
def _fields() -> Mapping[str, FieldOption]:
    """All that any kind has."""
    found: dict[str, FieldOption] = {}
    for kind in KINDS.values():
        for name in kind.model_fields:
            if name not in found:
                found[name] = kind_option(kind, name)
    return found


def _value(text: str, option: FieldOption) -> Any:
    kind = option.schema.get("type")
    if kind in ("array", "object") and text.lstrip()[:1] in ("[", "{"):
        return _json(text)
    if option.name == "seed" or kind == "boolean":
        return _typed(text, option.schema)
    if kind == "array" and not option.is_pair and option.schema.get("items", {}).get("type") == "integer":
        return [number(part, int) for part in re.split(r"[,;\s]+", text.strip())]
    return option.value([text] if option.repeated else text)


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return number(text, int if kind == "integer" else float)
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    return _json(text) if kind in ("array", "object") else text


def _json(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return text  # the request wants something else, and says so
