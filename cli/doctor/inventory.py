"""Which of the catalogue's models are on this machine, told by the lock file and the files' sizes; torch stays out."""

from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Literal

from darkroom.tasks.adapters import LoraEntry, StyleEntry
from darkroom.tasks.catalogue import BundledSource, FileSource, HubSource, ModelEntry
from darkroom.worker.adapters.places import path_of_lora, pin_of_lora
from darkroom.worker.adapters.style_places import pin_of_style, style_files
from darkroom.worker.models.lockfile import LOCAL, LockedModel
from darkroom.worker.models.places import folder_of, pin_of
from darkroom.worker.settings import WorkerSettings

State = Literal["pulled", "incomplete", "not pulled", "local", "missing", "bundled"]

#: Of an adapter that is here, by the type of its source; and of one that lacks something.
_STATES: dict[str, State] = {"hub": "pulled", "file": "local", "bundled": "bundled"}
_LACKING: dict[State, State] = {"pulled": "incomplete", "local": "missing", "bundled": "missing"}

HERE: tuple[State, ...] = ("pulled", "local", "bundled")


@dataclass(frozen=True, slots=True)
class Holding:
    """One model, LoRA or style adapter here: `bytes` pinned, `wrong` the files that lack or have another size."""

    state: State
    revision: str = ""
    bytes: int = 0
    wrong: tuple[str, ...] = ()
    files: tuple[tuple[str, Path], ...] = ()
    locked: LockedModel | None = None


def holding(entry: ModelEntry, settings: WorkerSettings) -> Holding:
    """What is here of one model. Raises LockInvalid."""
    locked, source = pin_of(entry, settings), entry.source
    if isinstance(source, HubSource | BundledSource):
        state: State = "pulled" if isinstance(source, HubSource) else "bundled"
        return _held(state, locked, folder_of(entry, settings, locked.revision)) if locked else Holding("not pulled")
    if not source.path.exists():
        return Holding("missing", wrong=(str(source.path),))
    if locked is None or isinstance(source, FileSource):  # the files of one file's configs lie elsewhere
        return Holding("local", LOCAL, _bytes(locked), locked=locked)
    return _held("local", locked, source.path)


def lora_holding(entry: LoraEntry, settings: WorkerSettings) -> Holding:
    """What is here of one LoRA. Raises LockInvalid."""
    locked = pin_of_lora(entry, settings)
    path = path_of_lora(entry, settings, locked)
    if path is None:
        return Holding("not pulled")
    state = _STATES[entry.source.type]
    there, revision = _size(path), locked.revision if locked else LOCAL
    pinned = next(iter(locked.files.values())).bytes if locked else there
    if there < 0:
        return Holding(_LACKING[state], revision, pinned, (str(path),), locked=locked)
    if there != pinned:
        return Holding("incomplete", revision, pinned, (str(path),), locked=locked)
    return Holding(state, revision, pinned, files=((path.name, path),), locked=locked)


def style_holding(entry: StyleEntry, settings: WorkerSettings) -> Holding:
    """What is here of one style adapter. Raises LockInvalid."""
    locked = pin_of_style(entry, settings)
    files = style_files(entry, settings, locked)
    if files is None:
        return Holding("not pulled")
    state = _STATES[entry.source.type]
    wanted = {name: file.bytes for name, file in locked.files.items()} if locked else {}
    paths = {name: files.path_of(name) for name in wanted} or {"": files.adapter, "config.json": files.encoder}
    wrong = tuple(
        str(path) for name, path in paths.items() if not path.exists() or wanted.get(name, -1) not in (-1, _size(path))
    )
    revision = locked.revision if locked else LOCAL
    if wrong:
        state = _LACKING[state]
    return Holding(state, revision, sum(wanted.values()), wrong, tuple(paths.items()), locked)


def _held(state: State, locked: LockedModel, folder: Path) -> Holding:
    files = {name: folder / name for name in locked.files}
    wrong = tuple(name for name, path in files.items() if _size(path) != locked.files[name].bytes)
    return Holding(
        "incomplete" if wrong else state, locked.revision, _bytes(locked), wrong, tuple(files.items()), locked
    )


def _bytes(locked: LockedModel | None) -> int:
    return sum(file.bytes for file in locked.files.values()) if locked else 0


def _size(path: Path) -> int:
    """Bytes of a file; -1 of anything else."""
    try:
        status = path.stat()
    except OSError:
        return -1
    return status.st_size if S_ISREG(status.st_mode) else -1
