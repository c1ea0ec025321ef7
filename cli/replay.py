"""`darkroom replay`: makes the pictures of a manifest again and says whether they are the same, and if not, why."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn

from darkroom.cli.errors import FileFault
from darkroom.cli.options import AsJson, Catalogue, Device, Dtype, Memory, ModelsDir, Threads, set_environment
from darkroom.cli.screen import Screen, table
from darkroom.storage import ObjectStore, StorageError, StorageNotConfigured, StorageSettings, open_store
from darkroom.storage.stores import load_settings
from darkroom.tasks.catalogue import load_catalogue
from darkroom.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from darkroom.worker.images.manifest import Manifest
    from darkroom.worker.images.replay import Difference, Replay, ReplayedImage

EXAMPLES = """Examples:

darkroom replay 01980c3e-7b1f-7d6e-8a45-2f4d3c6b7a89/manifest.json

darkroom replay ./darkroom-data/objects/01980c3e-.../manifest.json --save again/
"""

EXIT_DIFFERENT = 1


def replay(
    manifest: Annotated[str, typer.Argument(help="A manifest: a file of this machine, or its storage key.")],
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
    """Make the pictures of a manifest again and compare them: exits 0 if every one is equal bit for bit, else 1.

    What the manifest recorded (device, dtype, memory mode, threads) is repeated, as far as this machine has it; options
    win over it. Where the pictures differ, the circumstances that are not as recorded are named.
    """
    screen = Screen(as_json=as_json)
    set_environment(catalogue=catalogue, models_dir=models_dir)
    data, store = _read(manifest)
    folder = _folder(save)
    from darkroom.worker.images.manifest import parse_manifest  # loads torch

    recorded = parse_manifest(data, load_catalogue(WorkerSettings().catalogue))
    _repeat_circumstances(recorded)
    set_environment(device=device, dtype=dtype, memory=memory, threads=threads)
    images, differences = _made_again(recorded, _loader(recorded, store, screen), screen)
    saved = [_saved(image, folder) for image in images] if folder else []
    equal = bool(images) and all(image.bit_equal for image in images)
    screen.result(
        _document(recorded, images, differences, saved, equal=equal), _shown(images, differences, equal=equal)
    )
    return 0 if equal else EXIT_DIFFERENT


def _read(manifest: str) -> tuple[bytes, ObjectStore | None]:
    """The manifest's bytes, and where its pictures may be: the configured store, else the folder around the file."""
    path = Path(manifest).expanduser()
    if path.is_file():
        try:
            return path.read_bytes(), open_store()
        except StorageNotConfigured:
            root = path.resolve().parent.parent
            return path.read_bytes(), open_store(StorageSettings(storage_url=root.as_uri())) if root.name else None
    try:
        store = open_store()
    except StorageNotConfigured:
        raise FileFault(f"{manifest}: no such file", hint="for a storage key, set DARKROOM_STORAGE_URL") from None
    return store.get(manifest), store


def _folder(save: str | None) -> Path | None:
    if save is None:
        return None
    folder = Path(save).expanduser()
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


def _loader(manifest: "Manifest", store: ObjectStore | None, screen: Screen) -> Callable[[str], bytes | None]:
    """Finds the source picture and the originals; what is not at hand is not compared."""
    from darkroom.storage.inputs import read_input

    if store is None:
        return lambda _: None
    tenant, settings = manifest.request.tenant, load_settings()

    def load(reference: str) -> bytes | None:
        try:
            # Whoever may read the whole store may read every tenant's pictures in it.
            return read_input(reference, tenant=tenant, store=store, settings=settings, owns_output=lambda _: True)
        except StorageError as error:
            screen.note(f"{error.message}: not compared with it")
            return None

    return load


def _made_again(
    manifest: "Manifest", load: Callable[[str], bytes | None], screen: Screen
) -> tuple[list["ReplayedImage"], list["Difference"]]:
    from darkroom.worker.images.generate import Generator
    from darkroom.worker.images.replay import Replay
    from darkroom.worker.models.device import choose_placement
    from darkroom.worker.models.loading import load_model
    from darkroom.worker.models.tuning import make_engine

    settings = WorkerSettings()
    entry = load_catalogue(settings.catalogue)[manifest.model.name]
    placement = choose_placement(settings)
    with _progress(screen) as progress, make_engine(placement) as engine:
        loading = progress.add_task(f"{entry.name}: verify and load", total=None)
        model = load_model(
            entry, placement, settings, lambda done, of: progress.update(loading, completed=done, total=of)
        )
        progress.remove_task(loading)
        again = Replay(manifest, Generator(model, engine), load)
        return _images(again, len(manifest.images), progress), again.differences


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


def _document(
    manifest: "Manifest",
    images: list["ReplayedImage"],
    differences: list["Difference"],
    saved: list[Path],
    *,
    equal: bool,
) -> dict[str, Any]:
    made = [{name: getattr(image, name) for name in ("index", "seed", "bit_equal", "max_abs", "mean_abs")}
            for image in images]  # fmt: skip
    return {
        "job_id": manifest.job_id,
        "model": manifest.model.name,
        "bit_equal": equal,
        "images": made,
        "differences": [asdict(difference) for difference in differences],
        "saved": [str(path) for path in saved],
    }


def _shown(images: list["ReplayedImage"], differences: list["Difference"], *, equal: bool) -> RenderableType:
    parts: list[RenderableType] = [table("IMAGE", "SEED", "RESULT", rows=map(_row, images))]
    if differences:
        rows = ((one.field, one.recorded, one.now) for one in differences)
        parts += ["", table("NOT AS RECORDED", "THEN", "NOW", rows=rows)]
    elif not equal:
        parts += ["", "every recorded circumstance is as it was"]
    return Group(*parts)


def _row(image: "ReplayedImage") -> tuple[object, ...]:
    if image.bit_equal:
        words = "equal, bit for bit"
    elif image.max_abs is None:
        words = "different; the original is not at hand, or has another size"
    else:
        words = f"different by {image.max_abs} of 255 at most, {image.mean_abs:.3g} on average"
    return image.index, image.seed, words
