"""`darkroom loras`: what can be named in requests, fetching files, and looking into them. Own ones: `own_loras.py`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType

from darkroom.cli import own_loras
from darkroom.cli.fetching import fetching
from darkroom.cli.market import market_if_heard
from darkroom.cli.models import PICKLES
from darkroom.cli.options import AsJson, Catalogue, ModelsDir, worker_settings
from darkroom.cli.reading import local_path
from darkroom.cli.screen import Screen, in_words, pairs, size, table
from darkroom.tasks import Market
from darkroom.tasks.adapters import LoraEntry
from darkroom.tasks.catalogue import load_loras
from darkroom.tasks.misspelt import did_you_mean
from darkroom.worker.errors import AdapterMissing
from darkroom.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from darkroom.cli.doctor.inventory import Holding
    from darkroom.worker.adapters.facts import LoraFacts

app = typer.Typer(help="LoRAs: what there is, fetching and inspecting files, and a tenant's own.", no_args_is_help=True)


@app.command("list", epilog="Examples: darkroom loras list --json; darkroom loras list --tenant alice")
def list_loras(
    *,
    tenant: own_loras.Tenant = "default",
    catalogue: Catalogue = None,
    models_dir: ModelsDir = None,
    as_json: AsJson = False,
) -> None:
    """List the tenant's own LoRAs, and those of catalogue and workers: for which models, where the file is, rank."""
    screen, settings = Screen(as_json=as_json), worker_settings(catalogue, models_dir)
    entries, market = load_loras(settings.catalogue), market_if_heard(screen, "offered")
    offered = _offered(market)
    names = sorted({*entries, *(offered or ())})
    documents = [*_own(market, tenant), *(_document(name, entries.get(name), offered, settings) for name in names)]
    screen.result({"loras": documents}, loras_table(documents))


@app.command(epilog="Examples: darkroom loras show lcm-sdxl; darkroom loras show cat --tenant alice")
def show(
    name: str,
    *,
    tenant: own_loras.Tenant = "default",
    catalogue: Catalogue = None,
    models_dir: ModelsDir = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one LoRA: the tenant's own, else what catalogue and workers say."""
    screen, settings = Screen(as_json=as_json), worker_settings(catalogue, models_dir)
    entries, market = load_loras(settings.catalogue), market_if_heard(screen, "offered")
    offered = _offered(market)
    document = next((one for one in _own(market, tenant) if one["name"] == name), None)
    if document is None:
        if name not in (offered or ()):
            _entry(name, entries)
        document = _document(name, entries.get(name), offered, settings)
    screen.result(
        document, pairs([(key, in_words(value)) for key, value in document.items() if value not in ("", None)])
    )


@app.command(epilog="Example: darkroom loras pull lcm-sdxl")
def pull(name: str, *, catalogue: Catalogue = None, models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """Fetch a LoRA's file from the Hugging Face hub at one commit, check it, and pin its digest."""
    screen, settings = Screen(as_json=as_json), worker_settings(catalogue, models_dir)
    entry = _entry(name, load_loras(settings.catalogue))
    from darkroom.worker.adapters.pull import pull_lora  # loads torch and the hub's library

    with fetching(screen, name) as told:
        found = pull_lora(entry, settings, progress=told)
    amount = found.path.stat().st_size
    screen.result(
        {"name": name, "path": str(found.path), "revision": found.revision, "sha256": found.sha256, "bytes": amount},
        f"{name}: {size(amount)}, at {found.revision} in {settings.models_dir}",
    )


@app.command(epilog="Examples: darkroom loras inspect lcm-sdxl; darkroom loras inspect pen.safetensors")
def inspect(
    lora: Annotated[str, typer.Argument(metavar="PATH|NAME", help="A .safetensors file, or a LoRA of the catalogue.")],
    *,
    catalogue: Catalogue = None,
    models_dir: ModelsDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what a LoRA's file says of itself, from its header; nothing is loaded or run.

    Its numbers are looked at by the first job that it is used in: one that holds NaN is refused there.
    """
    path = _path(lora, worker_settings(catalogue, models_dir))
    from darkroom.worker.adapters.facts import inspect_lora  # loads torch

    facts = inspect_lora(path)
    Screen(as_json=as_json).result(_facts_document(facts), _facts_shown(facts))


app.command(epilog="Example: darkroom loras add cat.safetensors --name cat --tenant alice")(own_loras.add)
app.command(epilog="Example: darkroom loras delete cat --tenant alice")(own_loras.delete)
app.command(epilog="Example: darkroom loras export cat --output cat.safetensors --tenant alice")(own_loras.export)
app.command(epilog="Example: darkroom loras restore")(own_loras.restore)


def _entry(name: str, entries: Mapping[str, LoraEntry]) -> LoraEntry:
    if name not in entries:
        there = ", ".join(sorted(entries)) or "none"
        raise AdapterMissing(
            f"no LoRA {name!r} is in the catalogue{did_you_mean(name, entries)}; there are: {there}",
            hint="own LoRAs go into the file that DARKROOM_CATALOGUE names",
        )
    return entries[name]


_Offered = dict[str, dict[str, Any]]


def _offered(market: Market | None) -> _Offered | None:
    """By name of the LoRA: what is said of it, and how many workers serve each of the models that it is offered for.

    None where Redis does not answer.
    """
    if market is None:
        return None
    found: _Offered = {}
    for model, workers in market.workers.items():
        if not workers or not (offer := market.offers.get(model)):
            continue
        for lora in offer.loras:
            said = found.setdefault(lora.name, {**lora.model_dump(), "families": [], "workers": {}})
            said["workers"][model] = workers
            said["families"] = sorted({*said["families"], offer.family})
    return found


def _own(market: Market | None, tenant: str) -> list[dict[str, Any]]:
    """The tenant's own; none where Redis does not answer, of which the reader was told."""
    if market is None:
        return []
    there = own_loras.owned(tenant)
    found = [own_loras.document(lora, tenant) for lora in there.loras.values()]
    found += [own_loras.unreadable(name, tenant) for name in there.unreadable]
    return sorted(found, key=lambda one: str(one["name"]))


def _document(name: str, entry: LoraEntry | None, offered: _Offered | None, settings: WorkerSettings) -> dict[str, Any]:
    """What a worker says goes before what the catalogue of this machine says."""
    theirs = (offered or {}).get(name, {})
    said = {**(entry.model_dump(mode="json") if entry else {}), **{k: v for k, v in theirs.items() if k != "families"}}
    held = _holding(entry, settings)
    rank, broken = _worth(held)
    return {
        "name": name,
        "own": False,
        "families": entry.families if entry else theirs["families"],
        "models": said.get("models", []),
        "state": "not here" if held is None else "broken" if broken and not held.wrong else held.state,
        "reason": broken or None,
        "rank": said.get("rank", rank),
        "scale": said.get("scale", 1.0),
        "text": said.get("text"),
        "workers": None if offered is None else said.get("workers", {}),
        "sha256": said.get("sha256"),
        "source": said.get("source"),
        "description": said.get("description", ""),
        "license": said.get("license", ""),
    }


def _holding(entry: LoraEntry | None, settings: WorkerSettings) -> "Holding | None":
    """What is here of it; without the worker's libraries no file is any use."""
    try:
        from darkroom.cli.doctor.inventory import lora_holding  # needs filelock
    except ModuleNotFoundError:
        return None
    return lora_holding(entry, settings) if entry else None


def _worth(held: "Holding | None") -> tuple[int | None, str]:
    """Rank, and why no worker can use the file, as its header tells: nothing where none is here, or is any use."""
    try:
        from darkroom.cli.doctor.lora_files import worth  # loads torch
    except ModuleNotFoundError:
        return None, ""
    found = worth(held) if held else None
    return (found.rank, found.error.message if found.error else "") if found else (None, "")


def loras_table(documents: Iterable[Mapping[str, Any]]) -> RenderableType:
    """A line a LoRA."""
    rows = (
        (
            d["name"],
            ", ".join(d["families"]),
            d["state"],
            d["rank"] or "?",
            f"{d['scale']:g}",
            _workers(d),
            d["license"],
        )
        for d in documents
    )
    heads = ("NAME", "FAMILY", "FILE", "RANK", "SCALE", "OFFERED FOR", "LICENCE")
    return table(*heads, rows=rows, spare=("LICENCE", "SCALE", "FAMILY", "RANK"))


def _workers(document: Mapping[str, Any]) -> str:
    """`sdxl (2)`: models, and how many workers serve each."""
    if document["workers"] is None:
        return "?"
    return ", ".join(f"{model} ({workers})" for model, workers in sorted(document["workers"].items())) or "-"


def _path(lora: str, settings: WorkerSettings) -> Path:
    path = local_path(lora, "PATH")
    if path.exists() or path.suffix in (".safetensors", *PICKLES) or "/" in lora:
        return path
    entry = _entry(lora, load_loras(settings.catalogue))
    from darkroom.worker.adapters.places import path_of_lora, pin_of_lora

    found = path_of_lora(entry, settings, pin_of_lora(entry, settings))
    if found is None:
        raise AdapterMissing(f"LoRA {lora} was not pulled", hint=f"run `darkroom loras pull {lora}`")
    return found


def _facts_document(facts: "LoraFacts") -> dict[str, Any]:
    return {
        "path": str(facts.path),
        "bytes": facts.bytes,
        "naming": str(facts.naming) if facts.naming else None,
        "parts": facts.parts,
        "rank": facts.rank,
        "ranks": facts.ranks,
        "layers": facts.layers,
        "dtypes": facts.dtypes,
        "alpha": facts.alpha,
        "base": facts.base,
        "family": facts.family,
        "name": facts.name,
        "title": facts.title,
        "trigger": facts.trigger,
        "tags": facts.tags,
        "faults": facts.faults,
    }


def _facts_shown(facts: "LoraFacts") -> RenderableType:
    """Names and values; what keeps it from being used comes last."""
    document = _facts_document(facts) | {"bytes": size(facts.bytes)}
    faults = document.pop("faults")
    shown = [(name, in_words(list(value) if isinstance(value, tuple) else value)) for name, value in document.items()]
    parts: list[RenderableType] = [pairs([(name, words) for name, words in shown if words not in ("None", "-")])]
    return Group(*parts, *(f"cannot be used: {fault}" for fault in faults))
