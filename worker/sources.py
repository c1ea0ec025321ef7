"""From a catalogue entry to files on this machine whose digests are the pinned ones."""

from dataclasses import dataclass
from pathlib import Path

from darkroom.tasks.catalogue import FileSource, FolderSource, HubSource, ModelEntry
from darkroom.worker.digests import Progress, hash_files, verify
from darkroom.worker.door import one_door
from darkroom.worker.errors import ModelDigestMismatch, ModelMissing
from darkroom.worker.families import family
from darkroom.worker.layout import Layout, file_layout, folder_layout
from darkroom.worker.lockfile import LOCAL, LockedModel, pin_first, read_lock
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.weights import WeightsFile, inspect_weights


@dataclass(frozen=True)
class VerifiedModel:
    """Files that may be loaded; `digests` by file name as in the lock file, `revision` a commit or "local"."""

    layout: Layout
    revision: str
    digests: dict[str, str]


def verify_model(entry: ModelEntry, settings: WorkerSettings, progress: Progress | None = None) -> VerifiedModel:
    """Find the model's files and check every one of them. Raises a ModelError.

    A model of the operator's own is pinned when it is first used.
    """
    with one_door(entry.name):
        locked = read_lock(settings.models_dir).models.get(entry.name)
        if isinstance(entry.source, HubSource):
            locked = _pinned(entry.name, entry.source, locked)
        if locked:
            _check_present(entry, settings, locked)
        layout = find_layout(entry, settings)
        inspect_layout(layout)
        if locked is None:
            return _pin_local(entry, layout, settings, progress)
        return VerifiedModel(layout, locked.revision, verify(entry.name, layout.files, locked, progress))


def inspect_model(entry: ModelEntry, settings: WorkerSettings) -> dict[str, WeightsFile]:
    """What the model's weights are, from their headers, unverified; by file name. Raises a ModelError."""
    with one_door(entry.name):
        return inspect_layout(find_layout(entry, settings))


def inspect_layout(layout: Layout) -> dict[str, WeightsFile]:
    """Every header read and checked. Raises ModelCorrupt."""
    return {name: inspect_weights(layout.files[name]) for name in layout.weights}


def find_layout(entry: ModelEntry, settings: WorkerSettings) -> Layout:
    """Which files the model consists of, unverified. Raises a ModelError."""
    spec, source = family(entry.family), entry.source
    match source:
        case FileSource():
            return file_layout(spec, source.path, source.config)
        case FolderSource():
            return folder_layout(spec, source.path)
        case HubSource():
            locked = _pinned(entry.name, source, read_lock(settings.models_dir).models.get(entry.name))
            return folder_layout(spec, hub_folder(settings, entry.name, locked.revision), source.variant)


def hub_folder(settings: WorkerSettings, name: str, revision: str) -> Path:
    """Where a pulled model lies."""
    return settings.models_dir / name / revision


def pinned_for(source: HubSource, locked: LockedModel | None) -> LockedModel | None:
    """The lock file's entry if it was made for this source: an edited catalogue entry asks for a new pull."""
    asked = (source.repo, source.revision, source.variant)
    return locked if locked and (locked.source, locked.asked, locked.variant) == asked else None


def _pinned(name: str, source: HubSource, locked: LockedModel | None) -> LockedModel:
    found = pinned_for(source, locked)
    if found is None:
        wanted = f"{source.repo} at {source.revision}" + (f", variant {source.variant}" if source.variant else "")
        raise ModelMissing(f"model {name} ({wanted}) was not pulled", hint=f"run `darkroom models pull {name}`")
    return found


def _check_present(entry: ModelEntry, settings: WorkerSettings, locked: LockedModel) -> None:
    """First of all, so that a lost file is named, not what a loader would fall back to."""
    for name in locked.files:
        path = _path(entry, settings, locked, name)
        if not path.is_file():
            hint = None if isinstance(entry.source, HubSource) else "restore it; it was there when the model was pinned"
            raise ModelMissing(f"model {entry.name}: {path} is not there", hint=hint)


def _path(entry: ModelEntry, settings: WorkerSettings, locked: LockedModel, name: str) -> Path:
    match entry.source:
        case FileSource(path=path, config=config):
            return config / name.removeprefix("config/") if name.startswith("config/") else path
        case FolderSource(path=path):
            return path / name
        case HubSource():
            return hub_folder(settings, entry.name, locked.revision) / name


def _pin_local(entry: ModelEntry, layout: Layout, settings: WorkerSettings, progress: Progress | None) -> VerifiedModel:
    assert not isinstance(entry.source, HubSource)
    hashed = hash_files(layout.files, progress)
    source = str(entry.source.path.absolute())
    locked = pin_first(settings.models_dir, entry.name, LockedModel(source=source, files=hashed))
    if locked.files != hashed:  # another worker pinned the name a moment ago, for other files
        raise ModelDigestMismatch(f"model {entry.name}: pinned for other files, those of {locked.source}")
    return VerifiedModel(layout, LOCAL, {name: file.sha256 for name, file in hashed.items()})
