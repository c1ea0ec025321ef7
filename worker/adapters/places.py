"""Where the file of a LoRA lies, and whether it is the one that was pinned; without torch."""

from dataclasses import dataclass
from pathlib import Path

from darkroom.tasks.adapters import LoraEntry
from darkroom.tasks.sources import WeightsFileSource, WeightsHubSource
from darkroom.worker.errors import AdapterDigestMismatch, AdapterMissing
from darkroom.worker.models.digests import Progress, hash_files
from darkroom.worker.models.lockfile import LOCAL, LOCK_NAME, LockedFile, LockedModel, pin, read_lock
from darkroom.worker.models.opening import why_not
from darkroom.worker.models.places import PACKAGE
from darkroom.worker.settings import WorkerSettings

#: Beside the models, and before a LoRA's name in the lock file: no model's name has a slash.
FOLDER = "loras"


@dataclass(frozen=True, slots=True)
class LocatedLora:
    """A file of this machine that was verified; `revision` is a commit, or "local".

    `unpinned`: what is to be entered into the lock file once the file is of use (`pin_found`); None where nothing is.
    """

    path: Path
    sha256: str
    revision: str
    unpinned: LockedModel | None = None


def locked_name(entry: LoraEntry) -> str:
    """Its name in the lock file, which is its folder as well."""
    return f"{FOLDER}/{entry.name}"


def pin_of_lora(entry: LoraEntry, settings: WorkerSettings) -> LockedModel | None:
    """Its pin, None where there is none. Raises LockInvalid.

    An edited catalogue entry asks for another file: the old pin does not hold.
    """
    source = entry.source
    locked = read_lock(settings.models_dir).models.get(locked_name(entry))
    if locked is None:
        return None
    if isinstance(source, WeightsHubSource):
        same = (locked.source, locked.asked, list(locked.files)) == (source.repo, source.revision, [source.file])
    else:
        same = isinstance(source, WeightsFileSource) and locked.source == str(source.path.absolute())
    return locked if same else None


def path_of_lora(entry: LoraEntry, settings: WorkerSettings, locked: LockedModel | None) -> Path | None:
    """Where its file lies, if it is there; None for one of the hub that was not pulled."""
    match entry.source:
        case WeightsFileSource(path=path):
            return path
        case WeightsHubSource(file=file):
            return settings.models_dir / locked_name(entry) / locked.revision / file if locked else None
        case bundled:
            return PACKAGE / "starter" / FOLDER / f"{bundled.name}.safetensors"


def find_lora(
    entry: LoraEntry, settings: WorkerSettings, progress: Progress | None = None, *, unread: bool = False
) -> LocatedLora:
    """Finds the LoRA's file and holds it against its digest: that of the catalogue, and the one that was pinned.

    One of the operator's own is pinned when it is first used, by `pin_found`. `unread`: one that is pinned is taken for
    what it was while its size is the same; whoever reads it has to compare (`read_lora` does).
    Raises AdapterMissing, AdapterDigestMismatch and LockInvalid.
    """
    locked = pin_of_lora(entry, settings)
    path = path_of_lora(entry, settings, locked)
    if path is None:
        raise AdapterMissing(f"LoRA {entry.name} was not pulled", hint=_pull(entry))
    if unread and locked and (taken := _as_pinned(path, locked)):
        return LocatedLora(path, taken.sha256, locked.revision)
    found = _hashed(entry, path, progress)
    check_named(entry, path, found)
    if locked:
        _check_pinned(entry, path, found, locked)
        return LocatedLora(path, found.sha256, locked.revision)
    new = LockedModel(source=str(path.absolute()), files={path.name: found}) if entry.sha256 is None else None
    return LocatedLora(path, found.sha256, LOCAL, new)


def pin_found(entry: LoraEntry, located: LocatedLora, settings: WorkerSettings) -> None:
    """Pins a file of the operator's own that was found to be of use, where it is not pinned. Raises LockInvalid."""
    if located.unpinned:
        pin(settings.models_dir, locked_name(entry), located.unpinned)


def _check_pinned(entry: LoraEntry, path: Path, found: LockedFile, locked: LockedModel) -> None:
    (pinned,) = locked.files.values()
    if found != pinned:
        raise AdapterDigestMismatch(
            f"LoRA {entry.name}: {path} changed since its digest was pinned: its SHA-256 is {found.sha256} "
            f"and not {pinned.sha256}",
            hint=_again(entry),
        )


def _as_pinned(path: Path, locked: LockedModel) -> LockedFile | None:
    """What was pinned, if a file of that size lies there."""
    (pinned,) = locked.files.values()
    return pinned if path.is_file() and path.stat().st_size == pinned.bytes else None


def check_named(entry: LoraEntry, path: Path, found: LockedFile) -> None:
    """Raises AdapterDigestMismatch for a file that is not the one of the catalogue's digest."""
    if entry.sha256 not in (None, found.sha256):
        hint = "restore the file, or correct `sha256` in the catalogue entry"
        raise AdapterDigestMismatch(
            f"LoRA {entry.name}: {path} has the SHA-256 {found.sha256}, and the catalogue names {entry.sha256}",
            hint=hint,
        )


def _hashed(entry: LoraEntry, path: Path, progress: Progress | None) -> LockedFile:
    try:
        return hash_files({path.name: path}, progress)[path.name]
    except OSError as error:
        raise AdapterMissing(f"LoRA {entry.name}: {path} {why_not(error)}", hint=_again(entry, missing=True)) from None


def _pull(entry: LoraEntry) -> str:
    return f"run `darkroom loras pull {entry.name}`"


def _again(entry: LoraEntry, *, missing: bool = False) -> str:
    if isinstance(entry.source, WeightsHubSource):
        return _pull(entry)
    if not isinstance(entry.source, WeightsFileSource):
        return "install Darkroom again"
    if missing:
        return "correct the path in your catalogue file"
    return f"restore it; if the change is wanted, delete {locked_name(entry)} from {LOCK_NAME}"
