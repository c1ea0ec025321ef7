"""Models, LoRAs and style adapters: what each allows, its defaults, and where its weights come from.

Built-in entries are data (`catalogue.json`); an operator adds entries in a file of the same form, and every worker
publishes the entries it serves, so that a producer validates against what is really there. What an entry is made of
lies in files of its own, and is found here, too.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, field_validator

from darkroom.tasks.adapters import LoraEntry, StyleEntry
from darkroom.tasks.derived import (
    TAKEN,
    CatalogueFault,
    adapter_faults,
    base_faults,
    followed,
    relation_faults,
    with_bases,
)
from darkroom.tasks.entries import Catalogue, Defaults, Limits, ModelEntry, ModelOffer
from darkroom.tasks.errors import DarkroomError
from darkroom.tasks.families import NOT_OF_FAMILY, Family, Kind, ModelName
from darkroom.tasks.findings import in_words, words_of
from darkroom.tasks.schedulers import MOST_STEPS, SCHEDULERS, scheduler_id
from darkroom.tasks.sources import BundledSource, FileSource, FolderSource, HubSource, Strict

__all__ = [
    "MOST_STEPS",
    "NOT_OF_FAMILY",
    "SCHEDULERS",
    "BundledSource",
    "Catalogue",
    "CatalogueError",
    "Contents",
    "Defaults",
    "Family",
    "FileSource",
    "FolderSource",
    "HubSource",
    "Kind",
    "Limits",
    "LoraEntry",
    "ModelEntry",
    "ModelName",
    "ModelOffer",
    "StyleEntry",
    "builtin_catalogue",
    "builtin_contents",
    "load_catalogue",
    "load_contents",
    "load_loras",
    "load_styles",
    "scheduler_id",
]

Entry = TypeVar("Entry", ModelEntry, LoraEntry, StyleEntry)
_FORM = 'the form is {"models": [...], "loras": [...], "styles": [...]}'


class CatalogueError(DarkroomError):
    """A catalogue file cannot be used; the message names every fault."""

    code = "catalogue_invalid"
    exit_code = 4


class _File(Strict):
    models: list[ModelEntry] = Field(default=[])
    loras: list[LoraEntry] = Field(default=[])
    styles: list[StyleEntry] = Field(default=[])

    @field_validator("models", "loras", "styles")
    @classmethod
    def _no_name_twice(cls, entries: list[Entry]) -> list[Entry]:
        names = Counter(entry.name for entry in entries)
        if twice := [name for name, times in names.items() if times > 1]:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return entries


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a catalogue has, by name."""

    models: dict[str, ModelEntry]
    loras: dict[str, LoraEntry]
    styles: dict[str, StyleEntry] = field(default_factory=dict)


@cache
def builtin_contents() -> Contents:
    """What Darkroom knows out of the box."""
    text = files("darkroom.tasks").joinpath("catalogue.json").read_text()
    return _checked(_parsed(text, "catalogue.json", {}), Contents({}, {}), "catalogue.json")


def builtin_catalogue() -> dict[str, ModelEntry]:
    """The models that Darkroom knows out of the box."""
    return builtin_contents().models


def load_contents(path: Path | None) -> Contents:
    """Built-in entries, and over them the operator's file. Relative paths in it are relative to the file.

    Raises CatalogueError with every fault.
    """
    under = builtin_contents()
    if path is None:
        return Contents(dict(under.models), dict(under.loras), dict(under.styles))
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise CatalogueError(f"{path}: is no UTF-8 text") from None
    except OSError as error:
        raise CatalogueError(f"{path}: {error.strerror}", hint="check DARKROOM_CATALOGUE") from None
    own = _parsed(text, str(path), under.models)
    anchored = Contents(
        {name: _anchored(entry, path.parent) for name, entry in own.models.items()},
        {name: _anchored(entry, path.parent) for name, entry in own.loras.items()},
        {name: _anchored(entry, path.parent) for name, entry in own.styles.items()},
    )
    return _checked(anchored, under, str(path))


def load_catalogue(path: Path | None) -> dict[str, ModelEntry]:
    """The models of `load_contents`."""
    return load_contents(path).models


def load_loras(path: Path | None) -> dict[str, LoraEntry]:
    """The LoRAs of `load_contents`."""
    return load_contents(path).loras


def load_styles(path: Path | None) -> dict[str, StyleEntry]:
    """The style adapters of `load_contents`, the operator's own last."""
    return load_contents(path).styles


def _parsed(text: str, origin: str, under: Mapping[str, ModelEntry]) -> Contents:
    """The entries of one file, each by itself."""
    try:
        data = json.loads(text.removeprefix("\ufeff"))  # the byte order mark that some editors write
    except RecursionError:
        raise CatalogueError(f"{origin}: no JSON: nested too deep") from None
    except ValueError as error:
        raise CatalogueError(f"{origin}: no JSON: {in_words(error)}") from None
    if isinstance(data, dict) and not data.keys() & _File.model_fields.keys():
        raise CatalogueError(f"{origin}: has neither models nor LoRAs nor styles", hint=_FORM)
    models = data.get("models") if isinstance(data, dict) else None
    models = models if isinstance(models, list) else []
    try:
        found = _File.model_validate({**data, "models": with_bases(models, under)} if models else data)
    except ValidationError as error:
        raise _refused(origin, [*_faults(error, data), *base_faults(models, under)]) from None
    if faults := list(base_faults(models, under)):
        raise _refused(origin, faults)
    named: list[Any] = [{one.name: one for one in entries} for entries in (found.models, found.loras, found.styles)]
    return Contents(*named)


def _checked(own: Contents, under: Contents, origin: str) -> Contents:
    """One over the other. Raises CatalogueError for entries of the upper one that do not go together."""
    loras = {**under.loras, **own.loras}
    models = {**followed(under.models, own.models, loras), **own.models}
    faults = [fault for entry in own.models.values() for fault in relation_faults(entry, models, loras)]
    faults += [fault for lora in own.loras.values() for fault in adapter_faults("loras", lora, models)]
    faults += [fault for style in own.styles.values() for fault in adapter_faults("styles", style, models)]
    if faults:
        raise _refused(origin, faults)
    kept = {name: style for name, style in under.styles.items() if name not in own.styles}
    return Contents(models, loras, {**kept, **own.styles})


def _faults(error: ValidationError, data: Any) -> Iterator[CatalogueFault]:
    for item in error.errors(include_url=False):
        place = item["loc"] or ("the file",)
        if len(place) < 2:
            yield tuple(map(str, place)), words_of(item)
            continue
        entry = data[place[0]][place[1]]
        name = entry.get("name", place[1]) if isinstance(entry, dict) else place[1]
        if isinstance(entry, dict) and "base" in entry and place[2:3] and place[2] in TAKEN and place[2] not in entry:
            continue  # the base's, of which it is told there
        yield (str(place[0]), str(name), *map(str, place[2:])), words_of(item)


def _refused(origin: str, faults: Iterable[CatalogueFault]) -> CatalogueError:
    """`models.NAME.defaults.width`: the name says more than the entry's number, where there is one."""
    told = "; ".join(f"{'.'.join(place)}: {why}" for place, why in faults)
    return CatalogueError(f"{origin}: {told}", hint=_FORM)


def _anchored(entry: Entry, base: Path) -> Entry:
    named = {name: getattr(entry.source, name, None) for name in ("path", "config", "image_encoder")}
    paths = {name: base / path for name, path in named.items() if isinstance(path, Path)}
    return entry.model_copy(update={"source": entry.source.model_copy(update=paths)})
