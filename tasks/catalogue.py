"""The models that can be asked for: what each allows, its defaults, and where its weights come from.

Built-in entries are data (`catalogue.json`); an operator adds entries in a file of the same form, and every worker
publishes the entries it serves, so that a producer validates against what is really there. What an entry is made of
lies in files of its own, and is found here, too.
"""

import json
from collections import Counter
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator

from darkroom.tasks.entries import Catalogue, Defaults, Limits, ModelEntry, ModelOffer
from darkroom.tasks.errors import DarkroomError
from darkroom.tasks.families import NOT_OF_FAMILY, Family, Kind, ModelName
from darkroom.tasks.findings import in_words
from darkroom.tasks.schedulers import MOST_STEPS, SCHEDULERS, scheduler_id
from darkroom.tasks.sources import BundledSource, FileSource, FolderSource, HubSource, Strict

__all__ = [
    "MOST_STEPS",
    "NOT_OF_FAMILY",
    "SCHEDULERS",
    "BundledSource",
    "Catalogue",
    "CatalogueError",
    "Defaults",
    "Family",
    "FileSource",
    "FolderSource",
    "HubSource",
    "Kind",
    "Limits",
    "ModelEntry",
    "ModelName",
    "ModelOffer",
    "builtin_catalogue",
    "load_catalogue",
    "parse_catalogue",
    "scheduler_id",
]


class CatalogueError(DarkroomError):
    """A catalogue file cannot be used; the message names every fault."""

    code = "catalogue_invalid"
    exit_code = 4


class _File(Strict):
    models: list[ModelEntry]

    @field_validator("models")
    @classmethod
    def _no_name_twice(cls, models: list[ModelEntry]) -> list[ModelEntry]:
        names = Counter(model.name for model in models)
        if twice := [name for name, times in names.items() if times > 1]:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return models


def parse_catalogue(text: str, origin: str) -> dict[str, ModelEntry]:
    """Entries of one file: a JSON list of models. Raises CatalogueError with every fault."""
    try:
        data = json.loads(text.removeprefix("\ufeff"))  # the byte order mark that some editors write
    except RecursionError:
        raise CatalogueError(f"{origin}: no JSON: nested too deep") from None
    except ValueError as error:
        raise CatalogueError(f"{origin}: no JSON: {in_words(error)}") from None
    try:
        entries = _File.model_validate(data).models
    except ValidationError as error:
        faults = "; ".join(f"{_place(e['loc'], data)}: {e['msg']}" for e in error.errors(include_url=False))
        raise CatalogueError(f"{origin}: {faults}", hint='the form is {"models": [...]}') from None
    return {entry.name: entry for entry in entries}


def _place(location: tuple[int | str, ...], data: Any) -> str:
    """`models.NAME.defaults.width`: the name says more than the entry's number, where there is one."""
    parts = list(location) or ["the file"]
    if len(parts) > 1 and isinstance(entry := data["models"][parts[1]], dict):
        parts[1] = entry.get("name", parts[1])
    return ".".join(map(str, parts))


@cache
def builtin_catalogue() -> dict[str, ModelEntry]:
    """The models that Darkroom knows out of the box."""
    return parse_catalogue(files("darkroom.tasks").joinpath("catalogue.json").read_text(), "catalogue.json")


def load_catalogue(path: Path | None) -> dict[str, ModelEntry]:
    """Built-in entries, and over them the operator's file. Relative paths in it are relative to the file."""
    if path is None:
        return dict(builtin_catalogue())
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise CatalogueError(f"{path}: is no UTF-8 text") from None
    except OSError as error:
        raise CatalogueError(f"{path}: {error.strerror}", hint="check DARKROOM_CATALOGUE") from None
    own = parse_catalogue(text, str(path))
    return {**builtin_catalogue(), **{name: _anchored(entry, path.parent) for name, entry in own.items()}}


def _anchored(entry: ModelEntry, base: Path) -> ModelEntry:
    paths = {k: base / getattr(entry.source, k) for k in ("path", "config") if hasattr(entry.source, k)}
    return entry.model_copy(update={"source": entry.source.model_copy(update=paths)})
