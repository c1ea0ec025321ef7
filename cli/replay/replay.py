"""`darkroom replay`: makes the pictures of a manifest again and says whether they are the same, and if not, why."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn

from darkroom.cli.options import AsJson, Catalogue, Device, Dtype, Memory, ModelsDir, Threads, set_environment
from darkroom.cli.reading import local_path
from darkroom.cli.replay.recorded import disagreements, find
from darkroom.cli.replay.verdict import Verdict
from darkroom.cli.screen import Screen
from darkroom.storage import ObjectStore
from darkroom.storage.stores import load_settings
from darkroom.tasks.catalogue import ModelEntry, load_contents
from darkroom.tasks.requests.loras import Lora
from darkroom.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from darkroom.worker.images.manifest import Manifest
    from darkroom.worker.images.replay import Replay, ReplayedImage

EXAMPLES = """Examples:

darkroom replay ID

darkroom replay darkroom-data/objects/ID/manifest-*.json --save again/
"""

EXIT_DIFFERENT = 1
SPARE_BYTES = 20_000_000  # that an object may have more than was recorded, and be compared all the same


def replay(
    manifest: Annotated[
        str, typer.Argument(metavar="ID|MANIFEST", help="A job's id; or a manifest's file, or its storage key.")
    ],
    *,
    device: Device = None,
    dtype: Dtype = None,
    memory: Memory = None,
    threads: Threads = None,
    catalogue: Catalogue = None,
    models_dir: ModelsDir = None,
    save: Annotated[str | None, typer.Option(metavar="DIR", help="Keep the pictures that were made again.")] = None,
    as_json: AsJson = False,
) -> int:
    """Make a job's pictures again and compare them: exits 0 if every one is equal bit for bit, else 1.

    Equal is a picture or a file that comes out as recorded and is stored as recorded; what else is found is named.
    What the manifest recorded (device, dtype, memory mode, threads) is repeated, as far as this machine has it; options
    win over it. Where the pictures differ, the circumstances that are not as recorded are named.
    """
    screen = Screen(as_json=as_json)
    set_environment(catalogue=catalogue, models_dir=models_dir)
    found, folder = find(manifest), _folder(save)
    from darkroom.worker.images.manifest import parse_manifest  # loads torch
    from darkroom.worker.process.logs import configure_logs

    settings = WorkerSettings()
    configure_logs("auto", "warning")
    recorded = parse_manifest(found.data, load_contents(settings.catalogue).models)
    _repeat_circumstances(recorded)
    set_environment(device=device, dtype=dtype, memory=memory, threads=threads)
    images, again = _made_again(recorded, found.store, screen)
    saved = [_saved(image, folder) for image in images] if folder else []
    verdict = Verdict(recorded, images, again.files, disagreements(found, recorded), again.differences, saved)
    screen.result(verdict.as_dict(), verdict.shown())
    return 0 if verdict.equal else EXIT_DIFFERENT


def _folder(save: str | None) -> Path | None:
    if save is None:
        return None
    folder = local_path(save, "--save")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _repeat_circumstances(manifest: "Manifest") -> None:
    """The recorded form of the model for this process, where neither option nor variable says otherwise."""
    from darkroom.worker.models.device import devices

    kind = manifest.environment.get("device")
    there = any(device.partition(":")[0] == kind for device in devices())
    threads = manifest.environment.get("threads")
    wishes = {
        "device": kind if there else None,
        "dtype": manifest.dtype if there else None,
        "memory": manifest.memory if there else None,
        "threads": threads if isinstance(threads, int) and 0 < threads <= 4 * (os.cpu_count() or 1) else None,
    }
    set_environment(**{name: wish for name, wish in wishes.items() if f"DARKROOM_{name.upper()}" not in os.environ})


def _loader(manifest: "Manifest", store: ObjectStore | None) -> Callable[[str], bytes | None]:
    """Finds the source picture, as the worker did, and the stored ones."""
    from darkroom.storage.inputs import read_input

    if store is None:
        return lambda _: None
    tenant, settings = manifest.request.tenant, load_settings()
    sizes = {image.key: image.bytes for image in manifest.images}
    sizes |= {file.key: file.bytes for file in manifest.files}

    def load(reference: str) -> bytes | None:
        if reference in sizes:
            return store.get(reference, limit=sizes[reference] + SPARE_BYTES)
        # Whoever may read the whole store may read every tenant's pictures in it.
        return read_input(
            reference, tenant=tenant, store=store, settings=settings, owns_output=lambda _: True, latents=True
        )

    return load


def _made_again(
    manifest: "Manifest", store: ObjectStore | None, screen: Screen
) -> tuple[list["ReplayedImage"], "Replay"]:
    """The pictures, and what else was found."""
    from darkroom.worker.adapters.own_files import OwnFiles
    from darkroom.worker.images.own import own_at_hand
    from darkroom.worker.images.replay import Replay
    from darkroom.worker.models.device import choose_placement
    from darkroom.worker.models.tuning import make_engine
    from darkroom.worker.process.pinned import Pinned, named_entries

    settings = WorkerSettings()
    contents, placement = load_contents(settings.catalogue), choose_placement(settings)
    entries = named_entries([manifest.model.name, *(one.model.name for one in manifest.further_models)], contents)
    with _progress(screen) as progress, make_engine(placement) as engine:
        telling, loras = partial(_verifying, progress), _loras(manifest, entries)
        loaded = Pinned(contents, placement, settings, engine, telling, loras).named(entries)
        generator, load = loaded[manifest.model.name], _loader(manifest, store)
        own = own_at_hand(manifest.request, generator, OwnFiles.of(settings), store) if store else nullcontext()
        with own:
            again = Replay(manifest, generator, load, loaded)
            return _images(again, manifest.request.pieces, progress), again


def _loras(manifest: "Manifest", entries: Sequence[ModelEntry]) -> set[str]:
    """Those of the catalogue that had a part in the job; what is wrong with others is nobody's business here."""
    asked: list[Lora] = getattr(manifest.request, "loras", [])
    return {lora.name for lora in asked if not lora.own} | {own.name for entry in entries for own in entry.own_loras}


@contextmanager
def _verifying(progress: Progress, name: str) -> Iterator[Callable[[int, int], None]]:
    task = progress.add_task(f"{name}: verify and load", total=None)
    yield lambda done, of: progress.update(task, completed=done, total=of)
    progress.remove_task(task)


def _images(again: "Replay", count: int, progress: Progress) -> list["ReplayedImage"]:
    task, found = progress.add_task("pictures", total=None), list["ReplayedImage"]()

    def on_step(step: int, of: int, _latents: object) -> None:
        progress.update(task, completed=len(found) * of + step, total=count * of)

    for image in again.images(on_step):
        found.append(image)
    return found


def _progress(screen: Screen) -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    return Progress(
        *columns, console=screen.err, transient=True, redirect_stdout=False, disable=not screen.err.is_terminal
    )


def _saved(image: "ReplayedImage", folder: Path) -> Path:
    path = folder / f"{image.index}.png"
    image.image.save(path)
    return path
