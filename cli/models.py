"""`darkroom models`: what can be asked for, fetching weights, and looking into them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType

from darkroom.cli.errors import FileFault
from darkroom.cli.fetching import fetching
from darkroom.cli.market import market_if_heard
from darkroom.cli.options import AsJson, Catalogue, ModelsDir, worker_settings
from darkroom.cli.reading import local_path
from darkroom.cli.screen import Screen, pairs, size, table
from darkroom.tasks import Market, ModelOffer
from darkroom.tasks.catalogue import Contents, ModelEntry, load_catalogue, load_contents
from darkroom.tasks.sources import WeightsHubSource
from darkroom.worker.errors import ModelMissing, ModelUnknown, ModelUnsafe
from darkroom.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from darkroom.worker.models.weights import WeightsFile

app = typer.Typer(help="What can be asked for, fetching weights, and looking into them.", no_args_is_help=True)

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")


@app.command("list", epilog="Example: darkroom models list --json")
def list_models(*, catalogue: Catalogue = None, models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """List the catalogue: defaults, licence, whether the weights are here, and how many workers serve each model."""
    screen, settings = Screen(as_json=as_json), worker_settings(catalogue, models_dir)
    contents, market = load_contents(settings.catalogue), market_if_heard(screen, "served")
    states = _states(contents, settings)
    names = sorted({*contents.models, *(market.offers if market else ())})
    documents = [_document(name, contents.models.get(name), states.get(name), market) for name in names]
    screen.result({"models": documents}, models_table(documents))


@app.command(epilog="Example: darkroom models pull sdxl")
def pull(name: str, *, catalogue: Catalogue = None, models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """Fetch a model from the Hugging Face hub at one commit, check every file, and pin its digests.

    Of a model that is made of another one that is fetched, and the LoRAs that it has of its own.
    """
    screen, settings = Screen(as_json=as_json), worker_settings(catalogue, models_dir)
    contents = load_contents(settings.catalogue)
    entry = _entry(name, contents.models)
    from darkroom.worker.adapters.pull import pull_lora
    from darkroom.worker.models.pull import pull as fetch  # loads torch and the hub's library

    with fetching(screen, entry.weights) as told:
        locked = fetch(entry, settings, progress=told)
    own = [contents.loras[use.name] for use in entry.own_loras]
    for lora in (one for one in own if isinstance(one.source, WeightsHubSource)):
        with fetching(screen, lora.name) as told:
            pull_lora(lora, settings, progress=told)
    count, amount = len(locked.files), sum(file.bytes for file in locked.files.values())
    screen.result(
        {
            "name": name,
            "source": locked.source,
            "revision": locked.revision,
            "files": count,
            "bytes": amount,
            "loras": [one.name for one in own],
        },
        f"{name}: {count} files, {size(amount)}, at {locked.revision} in {settings.models_dir}",
    )


@app.command(epilog="Examples: darkroom models inspect sdxl; darkroom models inspect unet.safetensors --tensors")
def inspect(
    model: Annotated[str, typer.Argument(metavar="PATH|NAME", help="A .safetensors file, a folder, or a model.")],
    *,
    tensors: Annotated[bool, typer.Option("--tensors", help="Every tensor, not the sums alone.")] = False,
    catalogue: Catalogue = None,
    models_dir: ModelsDir = None,
    as_json: AsJson = False,
) -> None:
    """Show tensors and metadata of weights from their headers; nothing is loaded or run."""
    settings = worker_settings(catalogue, models_dir)
    files = _weights(model, settings)
    Screen(as_json=as_json).result(
        {"files": [_weights_document(name, found) for name, found in files.items()]}, _shown(files, tensors=tensors)
    )


def _entry(name: str, catalogue: Mapping[str, ModelEntry]) -> ModelEntry:
    if name not in catalogue:
        raise ModelUnknown(f"{name!r} is not in the catalogue; there are: {', '.join(sorted(catalogue))}")
    return catalogue[name]


def _states(contents: Contents, settings: WorkerSettings) -> dict[str, str]:
    """Where the worker's libraries are not installed, no model can be either."""
    try:
        from darkroom.cli.doctor.inventory import HERE, holding, lora_holding  # needs filelock
    except ModuleNotFoundError:
        return {}
    loras = {name: lora_holding(lora, settings).state for name, lora in contents.loras.items()}
    found: dict[str, str] = {}
    for name, entry in contents.models.items():
        parts = [holding(entry, settings).state, *(loras[use.name] for use in entry.own_loras)]
        found[name] = next((state for state in parts if state not in HERE), parts[0])
    return found


def _document(name: str, entry: ModelEntry | None, state: str | None, market: Market | None) -> dict[str, Any]:
    """As the catalogue of this machine has it, else as workers do; LoRAs are the workers' alone."""
    said = market.offers.get(name) if market else None
    offer = entry or said
    assert offer is not None
    shown = offer.model_dump(mode="json", include=set(ModelOffer.model_fields))
    loras = [lora.model_dump(mode="json") for lora in said.loras] if said else []
    served = None if market is None else market.workers.get(name, 0)
    has = market.has(name) if market else []
    return {**shown, "loras": loras, "state": state or "not here", "workers": served, "has": has}


def models_table(documents: Iterable[Mapping[str, Any]]) -> RenderableType:
    """A line a model. What its workers have is left to --json and `darkroom doctor`: it is long, and theirs alone."""
    rows = (
        (d["name"], d["family"], d["state"], _workers(d), _loras(d), d["base"] or "-", _defaults(d), d["license"])
        for d in documents
    )
    heads = ("NAME", "FAMILY", "WEIGHTS", "WORKERS", "LORAS", "BASE", "DEFAULTS", "LICENCE")
    return table(*heads, rows=rows, spare=("LICENCE", "DEFAULTS", "BASE", "LORAS", "FAMILY"))


def _workers(document: Mapping[str, Any]) -> str:
    return "?" if document["workers"] is None else str(document["workers"])


def _loras(document: Mapping[str, Any]) -> str:
    """How many requests may name; what is not served has none."""
    return str(len(document["loras"])) if document["workers"] else _workers(document)


def _defaults(document: Mapping[str, Any]) -> str:
    one = document["defaults"]
    size = f"{one['width']}x{one['height']}"
    return f"{size}, {one['num_inference_steps']} steps, guidance {one['guidance_scale']:g}, {one['scheduler']}"


def _weights(model: str, settings: WorkerSettings) -> Mapping[str, "WeightsFile"]:
    path = local_path(model, "PATH")
    if path.exists() or path.suffix in (".safetensors", *PICKLES) or "/" in model:
        return _weights_at(path)
    entry = _entry(model, load_catalogue(settings.catalogue))
    from darkroom.worker.models.sources import (
        inspect_model,  # loads torch: which files belong to it is the family's business
    )

    return inspect_model(entry, settings)


def _weights_at(path: Path) -> Mapping[str, "WeightsFile"]:
    from darkroom.worker.models.weights import inspect_weights

    if path.suffix in PICKLES:
        raise ModelUnsafe(f"{path}: {path.suffix} files can run code when loaded, so they are not looked into")
    if not path.exists():
        raise FileFault(f"{path}: no such file or folder", hint="`darkroom models list` shows the catalogue's names")
    if not path.is_dir():
        return {path.name: inspect_weights(path)}
    found = sorted(path.rglob("*.safetensors"))
    if not found:
        raise ModelMissing(f"{path}: no .safetensors file is in there", hint="")
    return {str(file.relative_to(path)): inspect_weights(file) for file in found}


def _weights_document(name: str, found: "WeightsFile") -> dict[str, Any]:
    tensors = [{"name": t.name, "dtype": t.dtype, "shape": t.shape, "bytes": t.bytes} for t in found.tensors]
    return {
        "file": name,
        "path": str(found.path),
        "bytes": found.bytes,
        "parameters": found.parameters,
        "dtypes": found.dtypes,
        "metadata": found.metadata,
        "tensors": tensors,
    }


def _shown(files: Mapping[str, "WeightsFile"], *, tensors: bool) -> RenderableType:
    sums = table(
        "FILE", "SIZE", "PARAMETERS", "TENSORS", "DTYPES", rows=map(_sums, files.items()), spare=("DTYPES", "TENSORS")
    )
    parts: list[RenderableType] = [sums]
    metadata = [(f"{name}: {key}", value) for name, found in files.items() for key, value in found.metadata.items()]
    parts += ["", pairs(metadata)] if metadata else []
    return Group(*parts, *(_all_tensors(files) if tensors else []))


def _sums(item: tuple[str, "WeightsFile"]) -> tuple[object, ...]:
    name, found = item
    dtypes = ", ".join(f"{dtype} {count:,}" for dtype, count in found.dtypes.items())
    return name, size(found.bytes), f"{found.parameters:,}", len(found.tensors), dtypes


def _all_tensors(files: Mapping[str, "WeightsFile"]) -> Iterable[RenderableType]:
    for name, found in files.items():
        rows = ((t.name, t.dtype, "x".join(map(str, t.shape)) or "scalar") for t in found.tensors)
        yield from ("", table(name, "DTYPE", "SHAPE", rows=rows))
