"""Models that are made of another one, and the LoRAs that models have: what a catalogue must say of them to be true.

A model with a `base` is the base with LoRAs of its own: it takes family and source from there.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from darkroom.tasks.adapters import AdapterEntry, LoraEntry
from darkroom.tasks.entries import ModelEntry
from darkroom.tasks.misspelt import did_you_mean

#: What is the base's.
TAKEN = ("family", "source")

Models = Mapping[str, ModelEntry]
Loras = Mapping[str, LoraEntry]
#: Where in the file, and what is wrong there.
CatalogueFault = tuple[tuple[str, ...], str]


def with_bases(models: list[Any], under: Models) -> list[Any]:
    """Models as a file has them, each with what it leaves to its base, of the file or of those `under` it."""
    named = _named(models)
    return [_with_base(one, named, under) for one in models]


def base_faults(models: list[Any], under: Models) -> Iterator[CatalogueFault]:
    """Bases that are not there, and those that have a base themselves, by which there is no circle either."""
    named = _named(models)
    for name, one in named.items():
        base = _base_of(one)
        if base is None:
            continue
        if base == name:
            yield ("models", name, "base"), "is the model itself"
        elif base not in named and base not in under:
            yield ("models", name, "base"), _unknown("model", base, {*named, *under})
        elif further := _base_of(named[base]) if base in named else under[base].base:
            yield ("models", name, "base"), f"{base} has a base itself, {further}: only that one can be a base"


def relation_faults(entry: ModelEntry, models: Models, loras: Loras) -> Iterator[CatalogueFault]:
    """What does not fit the model's base, and LoRAs of its own that do not fit it."""
    base = models[entry.base] if entry.base else entry
    for field in TAKEN:
        if getattr(entry, field) != getattr(base, field):
            yield ("models", entry.name, field), f"is another one than that of the base, {base.name}: leave it out"
    for number, use in enumerate(entry.own_loras):
        if why := _misfit(use.name, entry, loras):
            yield ("models", entry.name, "own_loras", str(number), "name"), why
        elif use.name in [other.name for other in entry.own_loras[:number]]:
            yield ("models", entry.name, "own_loras", str(number), "name"), f"{use.name} is there twice"


def adapter_faults(list_name: str, adapter: AdapterEntry, models: Models) -> Iterator[CatalogueFault]:
    """Models that a LoRA or style adapter is said to be for, and are not there, or of another family."""
    for name in adapter.models:
        if name not in models:
            yield (list_name, adapter.name, "models"), _unknown("model", name, models)
        elif models[name].family not in adapter.families:
            what = "LoRA" if list_name == "loras" else "style adapter"
            why = f"{name} is of the family {models[name].family}, and the {what} for {' and '.join(adapter.families)}"
            yield (list_name, adapter.name, "models"), why


def followed(under: Models, over: Models, loras: Loras) -> dict[str, ModelEntry]:
    """What is left of the entries below where others lie over them.

    They are made of the upper ones' bases; those that no longer fit are left out.
    """
    found = {name: _of_base(entry, over) for name, entry in under.items() if name not in over}
    models = {**found, **over}
    return {
        name: entry
        for name, entry in found.items()
        if not (entry.base and (models[entry.base].base or any(relation_faults(entry, models, loras))))
    }


def _named(models: list[Any]) -> dict[str, Any]:
    return {one["name"]: one for one in models if isinstance(one, dict) and isinstance(one.get("name"), str)}


def _base_of(one: Any) -> str | None:
    base = one.get("base") if isinstance(one, dict) else None
    return base if isinstance(base, str) else None


def _with_base(one: Any, named: Mapping[str, Any], under: Models) -> Any:
    base = _base_of(one)
    if base is not None and base in named:
        return {**{field: named[base][field] for field in (*TAKEN, "limits") if field in named[base]}, **one}
    if base is not None and base in under:
        return {**{field: getattr(under[base], field) for field in (*TAKEN, "limits")}, **one}
    return one


def _of_base(entry: ModelEntry, over: Models) -> ModelEntry:
    if entry.base is None or entry.base not in over:
        return entry
    return entry.model_copy(update={field: getattr(over[entry.base], field) for field in TAKEN})


def _misfit(name: str, entry: ModelEntry, loras: Loras) -> str:
    if name not in loras:
        return _unknown("LoRA", name, loras)
    why = loras[name].misfit(entry.name, entry.family, entry.base)
    return why and f"{name} {why}"


def _unknown(what: str, name: str, known: Any) -> str:
    there = ", ".join(sorted(known))
    return f"no {what} {name!r} is in the catalogue{did_you_mean(name, known)}; there are: {there or 'none'}"
