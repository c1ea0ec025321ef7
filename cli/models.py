"""`darkroom models`: what can be asked for, fetching weights, and looking into them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from darkroom.cli.errors import FileFault
from darkroom.cli.options import AsJson, Catalogue, ModelsDir, set_environment
from darkroom.cli.reading import local_path
from darkroom.cli.screen import Screen, pairs, size, table
from darkroom.tasks import Darkroom, ModelOffer, QueueError
from darkroom.tasks.catalogue import ModelEntry, load_catalogue
from darkroom.worker.errors import ModelMissing, ModelUnknown, ModelUnsafe
from darkroom.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from darkroom.worker.models.weights import WeightsFile

app = typer.Typer(help="What can be asked for, fetching weights, and looking into them.", no_args_is_help=True)

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")


@app.command("list", epilog="Example: darkroom models list --json")
def list_models(*, catalogue: Catalogue = None, models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """List the catalogue: defaults, licence, whether the weights are here, and how many workers serve each model."""
    screen, settings = Screen(as_json=as_json), _settings(catalogue, models_dir)
    entries = load_catalogue(settings.catalogue)
    try:
        with Darkroom() as client:
            market = client.models()
        offers, workers = {**market.offers, **entries}, market.workers
        has = {name: market.has(name) for name in offers}
    except QueueError as error:
        screen.note(f"which are served is not known: {error.message}")
        offers, workers, has = dict(entries), None, {}
    states = _states(entries, settings)
    documents = [_document(offers[name], states.get(name), workers, has.get(name, [])) for name in sorted(offers)]
    screen.result({"models": documents}, models_table(documents))


@app.command(epilog="Example: darkroom models pull sdxl")
def pull(name: str, *, catalogue: Catalogue = None, models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """Fetch a model from the Hugging Face hub at one commit, check every file, and pin its digests."""
    screen, settings = Screen(as_json=as_json), _settings(catalogue, models_dir)
    entry = _entry(name, load_catalogue(settings.catalogue))
    from darkroom.worker.models.pull import pull as fetch  # loads torch and the hub's library

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    quiet = not screen.err.is_terminal
    with Progress(
        *columns, TimeRemainingColumn(), console=screen.err, redirect_stdout=False, disable=quiet
    ) as progress:
        told = _Phases(progress, name)
        locked = fetch(entry, settings, progress=told)
    count, amount = len(locked.files), sum(file.bytes for file in locked.files.values())
    screen.result(
        {"name": name, "source": locked.source, "revision": locked.revision, "files": count, "bytes": amount},
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
    settings = _settings(catalogue, models_dir)
    files = _weights(model, settings)
    Screen(as_json=as_json).result(
        {"files": [_weights_document(name, found) for name, found in files.items()]}, _shown(files, tensors=tensors)
    )


class _Phases:
    """Bytes fetched, then from 0 again those verified: a bar each."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name, self._done = progress, name, 0
        self._tasks = [progress.add_task(f"{name}: fetch", total=None)]

    def __call__(self, done: int, total: int) -> None:
        if done < self._done:
            self._tasks.append(self._progress.add_task(f"{self._name}: verify", total=total))
        self._done = done
        self._progress.update(self._tasks[-1], completed=done, total=total)


def _settings(catalogue: str | None, models_dir: str | None) -> WorkerSettings:
    set_environment(catalogue=catalogue, models_dir=models_dir)
    return WorkerSettings()


def _entry(name: str, catalogue: Mapping[str, ModelEntry]) -> ModelEntry:
    if name not in catalogue:
        raise ModelUnknown(f"{name!r} is not in the catalogue; there are: {', '.join(sorted(catalogue))}")
    return catalogue[name]


def _states(entries: Mapping[str, ModelEntry], settings: WorkerSettings) -> dict[str, str]:
    """Where the worker's libraries are not installed, no model can be either."""
    try:
        from darkroom.cli.doctor.inventory import holding  # needs filelock
    except ModuleNotFoundError:
        return {}
    return {name: holding(entry, settings).state for name, entry in entries.items()}


def _document(
    offer: ModelOffer, state: str | None, workers: Mapping[str, int] | None, has: list[str]
) -> dict[str, Any]:
    served = None if workers is None else workers.get(offer.name, 0)
    shown = offer.model_dump(mode="json", include=set(ModelOffer.model_fields))
    return {**shown, "state": state or "not here", "workers": served, "has": has}


def models_table(documents: Iterable[Mapping[str, Any]]) -> RenderableType:
    """A line a model. What its workers have is left to --json and `darkroom doctor`: it is long, and theirs alone."""
    rows = ((d["name"], d["family"], d["state"], _workers(d), _defaults(d), d["license"]) for d in documents)
    heads = ("NAME", "FAMILY", "WEIGHTS", "WORKERS", "DEFAULTS", "LICENCE")
    return table(*heads, rows=rows, spare=("LICENCE", "DEFAULTS", "FAMILY"))


def _workers(document: Mapping[str, Any]) -> str:
    return "?" if document["workers"] is None else str(document["workers"])


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
    if path.is_file():
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
