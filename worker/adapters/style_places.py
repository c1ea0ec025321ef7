"""Where a style adapter's file and image encoder lie, and whether they are those that were pinned."""

from dataclasses import dataclass
from pathlib import Path

from darkroom.tasks.adapters import StyleEntry
from darkroom.tasks.sources import BundledSource, StyleFileSource, StyleHubSource
from darkroom.worker.adapters.image_encoder import encoder_files
from darkroom.worker.errors import AdapterDigestMismatch, AdapterMissing
from darkroom.worker.models.digests import Progress, hash_files
from darkroom.worker.models.lockfile import LOCAL, LOCK_NAME, LockedFile, LockedModel, pin, read_lock
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

    def all(self) -> dict[str, Path]:
        """Every file that loading opens, by the names that are pinned. Raises an AdapterError."""
        if not self.adapter.is_file():
            raise AdapterMissing(
                f"{self.adapter} is not there", hint="correct `path` of the style in your catalogue file"
            )
        return {
            self.adapter.name: self.adapter,
            **{f"{ENCODER}/{name}": path for name, path in encoder_files(self.encoder).items()},
        }


@dataclass(frozen=True, slots=True)
class LocatedStyle:
    """Files of this machine that were verified: SHA-256 by name; `revision` is a commit, or "local"."""

    files: StyleFiles
    digests: dict[str, str]
    revision: str


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


def find_style(entry: StyleEntry, settings: WorkerSettings, progress: Progress | None = None) -> LocatedStyle:
    """Finds the files and holds them against their digests: those of the catalogue, and those that were pinned.

    Those of the operator's own are pinned when they are first used. Raises an AdapterError, LockInvalid.
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
    if locked is None and not entry.digests:
        source, asked = asked_of(entry)
        pin(settings.models_dir, locked_style(entry), LockedModel(source=source, asked=asked, files=found))
    digests = {name: file.sha256 for name, file in found.items()}
    return LocatedStyle(files, digests, locked.revision if locked else LOCAL)


def hashed_style(entry: StyleEntry, files: StyleFiles, progress: Progress | None) -> dict[str, LockedFile]:
    """Size and digest of every file, those that the catalogue names compared. Raises an AdapterError."""
    try:
        found = hash_files(files.all(), progress)
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
