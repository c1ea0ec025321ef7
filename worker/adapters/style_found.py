"""A style adapter's files, held against their digests before any weight is read."""

from dataclasses import dataclass
from pathlib import Path

from darkroom.tasks.adapters import StyleEntry
from darkroom.tasks.sources import StyleHubSource
from darkroom.worker.adapters.image_encoder import encoder_files
from darkroom.worker.adapters.style_places import (
    ENCODER,
    StyleFiles,
    asked_of,
    locked_style,
    pin_of_style,
    style_files,
)
from darkroom.worker.errors import AdapterDigestMismatch, AdapterMissing
from darkroom.worker.models.digests import Progress, hash_files
from darkroom.worker.models.lockfile import LOCAL, LOCK_NAME, LockedFile, LockedModel, pin
from darkroom.worker.models.opening import trouble
from darkroom.worker.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class LocatedStyle:
    """Files of this machine that were verified: SHA-256 by name; `revision` is a commit, or "local".

    `unpinned`: what is to be entered into the lock file once they are of use (`pin_style`); None where nothing is.
    """

    files: StyleFiles
    digests: dict[str, str]
    revision: str
    unpinned: LockedModel | None = None


def opened_files(files: StyleFiles) -> dict[str, Path]:
    """Every file that loading opens, by the names that are pinned. Raises an AdapterError."""
    if why := trouble(files.adapter):
        raise AdapterMissing(f"{files.adapter} {why}", hint="correct `path` of the style in your catalogue file")
    inner = encoder_files(files.encoder)
    return {files.adapter.name: files.adapter, **{f"{ENCODER}/{name}": path for name, path in inner.items()}}


def find_style(entry: StyleEntry, settings: WorkerSettings, progress: Progress | None = None) -> LocatedStyle:
    """Finds the files and holds them against their digests: those of the catalogue, and those that were pinned.

    Those of the operator's own are pinned when they are first used, by `pin_style`. Raises an AdapterError and
    LockInvalid.
    """
    locked = pin_of_style(entry, settings)
    files = style_files(entry, settings, locked)
    if files is None:
        raise AdapterMissing(f"style {entry.name} was not pulled", hint=f"run `darkroom styles pull {entry.name}`")
    found = hashed_style(entry, files, progress)
    if locked and found != locked.files:
        others = sorted(
            name for name in found.keys() | locked.files.keys() if found.get(name) != locked.files.get(name)
        )
        raise AdapterDigestMismatch(
            f"style {entry.name}: {', '.join(others)} changed since the digests were pinned", hint=_again(entry)
        )
    new = None
    if locked is None and not entry.digests:
        source, asked = asked_of(entry)
        new = LockedModel(source=source, asked=asked, files=found)
    digests = {name: file.sha256 for name, file in found.items()}
    return LocatedStyle(files, digests, locked.revision if locked else LOCAL, new)


def pin_style(entry: StyleEntry, located: LocatedStyle, settings: WorkerSettings) -> None:
    """Pins files of the operator's own that were found to be of use, where they are not pinned. Raises LockInvalid."""
    if located.unpinned:
        pin(settings.models_dir, locked_style(entry), located.unpinned)


def hashed_style(entry: StyleEntry, files: StyleFiles, progress: Progress | None) -> dict[str, LockedFile]:
    """Size and digest of every file, those that the catalogue names compared. Raises an AdapterError."""
    try:
        found = hash_files(opened_files(files), progress)
    except OSError as error:
        raise AdapterMissing(f"style {entry.name}: {error.filename} cannot be read: {error.strerror}") from None
    wrong = [name for name, sha256 in entry.digests.items() if name not in found or found[name].sha256 != sha256]
    if wrong:
        raise AdapterDigestMismatch(
            f"style {entry.name}: {', '.join(wrong)} in {files.adapter.parent} is not what the catalogue names",
            hint="restore the files, or correct `digests` in the catalogue entry",
        )
    return found


def _again(entry: StyleEntry) -> str:
    if isinstance(entry.source, StyleHubSource):
        return f"run `darkroom styles pull {entry.name}`"
    return f"restore it; if the change is wanted, delete {locked_style(entry)} from {LOCK_NAME}"
