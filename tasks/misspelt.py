"""Names that are near to others: what was most likely meant, and variables of the environment that are no settings."""

import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from pydantic_settings import BaseSettings

PREFIX = "DARKROOM_"
#: Of difflib: over it two names differ by a letter or two, or a short end; no settings of ours are as alike.
NEAR = 0.8
NEAR_NAME = 0.7  # of names that people choose, which are short

_told: set[str] = set()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Words for the one that is near, behind what is said of the name; none where there is none."""
    near = get_close_matches(name, list(known), n=1, cutoff=NEAR_NAME)
    return f" (did you mean {near[0]}?)" if near else ""


def misspelt(*settings: type[BaseSettings]) -> Iterator[tuple[str, str]]:
    """Each such variable with the setting that is near, once in a process; these settings alone are looked at."""
    known = {name.upper() for kind in settings for name in kind.model_fields}
    for variable in sorted(os.environ):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in known or name in _told:
            continue
        for near in get_close_matches(name, known, n=1, cutoff=NEAR):
            _told.add(name)
            yield variable, PREFIX + near
