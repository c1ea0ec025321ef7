"""What users write, read: paths of this machine, numbers, JSON."""

import json
import re
from pathlib import Path
from typing import Any

from darkroom.cli.errors import UsageFault

#: Python reads more as numbers: 1_28, digits of other scripts, `infinity`.
_NUMBER = re.compile(r"\s*[-+]?[0-9.]+(e[-+]?[0-9]+)?\s*", re.IGNORECASE)


def local_path(text: str, option: str) -> Path:
    """A path, `~` being a home folder. Raises UsageFault, which names the option, where nobody has that home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        hint = "./ before it, where a file has this name"
        raise UsageFault(f"{option} {text}: no user {text.partition('/')[0]} has a home here", hint=hint) from None


def number(text: str, kind: type[int] | type[float]) -> int | float | str:
    """The number, or the text as it came."""
    for tried in (kind, float) if _NUMBER.fullmatch(text) else ():
        try:
            return tried(text)
        except ValueError:
            continue
    return text


def read_json(text: str | bytes) -> Any:
    """What the text says. Raises ValueError for what is no JSON, is nested too deep, or names a field twice."""
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:40]!r} is there twice")
        found[name] = value
    return found
