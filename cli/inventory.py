"""Which of the catalogue's models are on this machine, told by the lock file and the files' sizes; torch stays out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from darkroom.tasks.catalogue import FileSource, HubSource, ModelEntry
from darkroom.worker.lockfile import LockedModel, LockFile, read_lock
from darkroom.worker.settings import WorkerSettings

State = Literal["pulled", "incomplete", "not pulled", "local", "missing"]


@dataclass(frozen=True, slots=True)
class Holding:
    """One model here: `bytes` pinned, `wrong` the files that lack or have another size."""

    state: State
    revision: str = ""
    bytes: int = 0
    wrong: tuple[str, ...] = ()
    files: tuple[tuple[str, Path], ...] = ()
    locked: LockedModel | None = None


class Inventory:
    """The models folder, read once. Raises LockInvalid."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._lock: LockFile = read_lock(settings.models_dir)

    def holding(self, entry: ModelEntry) -> Holding:
        """What is here of one model."""
        locked = self._lock.models.get(entry.name)
        source = entry.source
        if isinstance(source, HubSource):
            asked = (source.repo, source.revision, source.variant)
            if locked is None or (locked.source, locked.asked, locked.variant) != asked:
                return Holding("not pulled")
            return _held("pulled", locked, self._settings.models_dir / entry.name / locked.revision)
        if not source.path.exists():
            return Holding("missing", wrong=(str(source.path),))
        if locked is None or isinstance(source, FileSource):  # the files of one file's configs lie elsewhere
            return Holding("local", "local", _bytes(locked), locked=locked)
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
