"""Which of the catalogue's models are on this machine, told by the lock file and the files' sizes; torch stays out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from darkroom.tasks.catalogue import BundledSource, FileSource, HubSource, ModelEntry
from darkroom.worker.models.lockfile import LOCAL, LockedModel
from darkroom.worker.models.places import folder_of, pin_of
from darkroom.worker.settings import WorkerSettings

State = Literal["pulled", "incomplete", "not pulled", "local", "missing", "bundled"]


@dataclass(frozen=True, slots=True)
class Holding:
    """One model here: `bytes` pinned, `wrong` the files that lack or have another size."""

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


def _held(state: State, locked: LockedModel, folder: Path) -> Holding:
    files = {name: folder / name for name in locked.files}
    wrong = tuple(name for name, path in files.items() if _size(path) != locked.files[name].bytes)
    return Holding(
        "incomplete" if wrong else state, locked.revision, _bytes(locked), wrong, tuple(files.items()), locked
    )


def _bytes(locked: LockedModel | None) -> int:
    return sum(file.bytes for file in locked.files.values()) if locked else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
