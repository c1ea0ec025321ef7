"""Where a style adapter's file and image encoder lie, and what was pinned of them; without torch."""

from dataclasses import dataclass
from pathlib import Path

from darkroom.tasks.adapters import StyleEntry
from darkroom.tasks.sources import BundledSource, StyleFileSource, StyleHubSource
from darkroom.worker.models.lockfile import LOCAL, LockedModel, read_lock
from darkroom.worker.models.places import PACKAGE
from darkroom.worker.settings import WorkerSettings

#: Beside the models, and before a style adapter's name in the lock file: no model's name has a slash.
FOLDER = "styles"
ENCODER = "image_encoder"


@dataclass(frozen=True, slots=True)
class StyleFiles:
    """The adapter's file, and the folder of its image encoder."""

    adapter: Path
    encoder: Path

    def path_of(self, name: str) -> Path:
        """Of a file by the name that is pinned."""
        inner = name.removeprefix(f"{ENCODER}/")
        return self.adapter if inner == name else self.encoder / inner


def locked_style(entry: StyleEntry) -> str:
    """Its name in the lock file, which is its folder as well."""
    return f"{FOLDER}/{entry.name}"


def pin_of_style(entry: StyleEntry, settings: WorkerSettings) -> LockedModel | None:
    """Its pin, None where there is none. Raises LockInvalid.

    An edited catalogue entry asks for other files: the old pin does not hold.
    """
    locked = read_lock(settings.models_dir).models.get(locked_style(entry))
    return locked if locked and (locked.source, locked.asked) == asked_of(entry) else None


def asked_of(entry: StyleEntry) -> tuple[str, str]:
    """What the lock file says of an entry's source: where it is, and the revision that is asked for."""
    match entry.source:
        case StyleHubSource(repo=repo, file=file, image_encoder=encoder, revision=revision):
            return f"{repo}: {file}, {encoder}", revision
        case StyleFileSource(path=path, image_encoder=folder):
            return f"{path.absolute()}, {folder.absolute()}", LOCAL
        case BundledSource(name=name):
            return name, LOCAL


def style_files(entry: StyleEntry, settings: WorkerSettings, locked: LockedModel | None) -> StyleFiles | None:
    """Where they lie, if they are there; None for those of the hub that were not pulled."""
    match entry.source:
        case StyleHubSource(file=file, image_encoder=encoder):
            folder = settings.models_dir / locked_style(entry) / locked.revision if locked else None
            return StyleFiles(folder / file, folder / encoder) if folder else None
        case StyleFileSource(path=path, image_encoder=folder):
            return StyleFiles(path, folder)
        case BundledSource(name=name):
            folder = PACKAGE / name / "style"
            return StyleFiles(folder / "ip_adapter.safetensors", folder / ENCODER)
