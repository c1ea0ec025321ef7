"""Where the files of a model lie, and which pin holds for them; without torch."""

from pathlib import Path

from darkroom.tasks.catalogue import BundledSource, FileSource, HubSource, ModelEntry
from darkroom.worker.models.lockfile import LockedModel, read_lock
from darkroom.worker.settings import WorkerSettings

PACKAGE = Path(__file__).parents[1]  # darkroom/worker, where bundled models lie


def pin_of(entry: ModelEntry, settings: WorkerSettings) -> LockedModel | None:
    """The pin of this model, None where there is none yet. Raises LockInvalid.

    A bundled model brings its own. An edited catalogue entry of a hub model asks for a new pull: its old pin does not
    hold.
    """
    source = entry.source
    if isinstance(source, BundledSource):
        return read_lock(PACKAGE / source.name).models.get(source.name)
    locked = read_lock(settings.models_dir).models.get(entry.weights)
    if locked and isinstance(source, HubSource):
        asked = (source.repo, source.revision, source.variant)
        return locked if (locked.source, locked.asked, locked.variant) == asked else None
    return locked


def folder_of(entry: ModelEntry, settings: WorkerSettings, revision: str) -> Path:
    """The folder in the diffusers layout; of a model in one file, that of its configs and tokenizers."""
    match entry.source:
        case BundledSource(name=name):
            return PACKAGE / name
        case HubSource():
            return settings.models_dir / entry.weights / revision
        case FileSource(config=config):
            return config
        case source:
            return source.path


def file_of(entry: ModelEntry, settings: WorkerSettings, locked: LockedModel, name: str) -> Path:
    """One pinned file, by its name in the pin."""
    if isinstance(entry.source, FileSource) and not name.startswith("config/"):
        return entry.source.path
    return folder_of(entry, settings, locked.revision) / name.removeprefix("config/")
