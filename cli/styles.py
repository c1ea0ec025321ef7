"""`darkroom styles`: the style adapters that the kind stylize works with, fetching them, and looking into them."""

from typing import Any

import typer
from rich.console import RenderableType

from darkroom.cli.fetching import fetching
from darkroom.cli.options import AsJson, Catalogue, ModelsDir, worker_settings
from darkroom.cli.screen import Screen, in_words, pairs, size, table
from darkroom.tasks.adapters import StyleEntry
from darkroom.tasks.catalogue import load_styles
from darkroom.tasks.misspelt import did_you_mean
from darkroom.worker.errors import AdapterError, AdapterMissing
from darkroom.worker.settings import WorkerSettings

app = typer.Typer(help="Style adapters: what there is, fetching and inspecting files.", no_args_is_help=True)


@app.command("list", epilog="Example: darkroom styles list --json")
def list_styles(*, catalogue: Catalogue = None, models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """List the style adapters of the catalogue: for which models, whether the files are here, and the licence."""
    settings = worker_settings(catalogue, models_dir)
    documents = [_document(entry, settings) for entry in load_styles(settings.catalogue).values()]
    Screen(as_json=as_json).result({"styles": documents}, _shown(documents))


@app.command(epilog="Example: darkroom styles pull ip-adapter-sdxl")
def pull(name: str, *, catalogue: Catalogue = None, models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """Fetch a style adapter and its image encoder from the Hugging Face hub at one commit, and pin their digests."""
    screen, settings = Screen(as_json=as_json), worker_settings(catalogue, models_dir)
    entry = _entry(name, settings)
    from darkroom.worker.adapters.style_found import opened_files
    from darkroom.worker.adapters.style_pull import pull_style  # loads torch and the hub's library

    with fetching(screen, name) as told:
        found = pull_style(entry, settings, progress=told)
    amount = sum(path.stat().st_size for path in opened_files(found.files).values())
    document = {"name": name, "revision": found.revision, "digests": found.digests, "bytes": amount}
    screen.result(document, f"{name}: {size(amount)}, at {found.revision} in {settings.models_dir}")


@app.command(epilog="Example: darkroom styles inspect ip-adapter-sdxl")
def inspect(name: str, *, catalogue: Catalogue = None, models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """Show what the file of a style adapter holds, from its header; nothing is loaded or run."""
    settings = worker_settings(catalogue, models_dir)
    entry = _entry(name, settings)
    from darkroom.worker.adapters.style_file import inspect_style  # loads torch
    from darkroom.worker.adapters.style_found import opened_files
    from darkroom.worker.adapters.style_places import pin_of_style, style_files

    files = style_files(entry, settings, pin_of_style(entry, settings))
    if files is None:
        raise AdapterMissing(f"style {name} was not pulled", hint=f"run `darkroom styles pull {name}`")
    held = inspect_style(files.adapter)
    document = {
        "name": name,
        "path": str(files.adapter),
        "bytes": held.bytes,
        "tensors": len(held.tensors),
        "dtypes": held.dtypes,
        "metadata": held.metadata,
        "files": {inner: path.stat().st_size for inner, path in opened_files(files).items()},
    }
    Screen(as_json=as_json).result(document, pairs([(key, in_words(value)) for key, value in document.items()]))


def _entry(name: str, settings: WorkerSettings) -> StyleEntry:
    entries = load_styles(settings.catalogue)
    if name not in entries:
        raise AdapterMissing(
            f"no style adapter {name!r} is in the catalogue{did_you_mean(name, entries)}; "
            f"there are: {', '.join(sorted(entries)) or 'none'}",
            hint="own ones go into the file that DARKROOM_CATALOGUE names",
        )
    return entries[name]


def _document(entry: StyleEntry, settings: WorkerSettings) -> dict[str, Any]:
    state, reason = _state(entry, settings)
    return {
        "name": entry.name,
        "families": entry.families,
        "models": entry.models,
        "state": state,
        "reason": reason or None,
        "source": entry.source.model_dump(mode="json"),
        "description": entry.description,
        "license": entry.license,
    }


def _state(entry: StyleEntry, settings: WorkerSettings) -> tuple[str, str]:
    """In the words of `models list`, and why no worker can use a file that is here, as its header tells.

    Without the worker's libraries no file is any use.
    """
    try:
        from darkroom.cli.doctor.inventory import HERE, style_holding  # needs filelock
        from darkroom.worker.adapters.style_file import inspect_style  # loads torch
        from darkroom.worker.adapters.style_places import style_files
    except ModuleNotFoundError:
        return "not here", ""
    held = style_holding(entry, settings)
    files = style_files(entry, settings, held.locked) if held.state in HERE else None
    try:
        if files:
            inspect_style(files.adapter)
    except AdapterError as error:
        return "broken", error.message
    return held.state, ""


def _shown(documents: list[dict[str, Any]]) -> RenderableType:
    rows = ((d["name"], ", ".join(d["families"]), d["state"], d["description"], d["license"]) for d in documents)
    return table("NAME", "FAMILY", "FILES", "DESCRIPTION", "LICENCE", rows=rows, spare=("LICENCE", "DESCRIPTION"))
