"""From a catalogue entry to files on this machine whose digests are the pinned ones."""

from dataclasses import dataclass

from darkroom.tasks.catalogue import BundledSource, FileSource, FolderSource, HubSource, ModelEntry
from darkroom.worker.errors import ModelDigestMismatch, ModelMissing
from darkroom.worker.models.checkpoints import LOADED, check_checkpoint
from darkroom.worker.models.configs import check_extent, read_json
from darkroom.worker.models.digests import Progress, hash_files, verify
from darkroom.worker.models.door import one_door
from darkroom.worker.models.families import FamilySpec, family
from darkroom.worker.models.layout import Layout, file_layout, folder_layout
from darkroom.worker.models.lockfile import LOCAL, LockedModel, pin_first
from darkroom.worker.models.opening import trouble
from darkroom.worker.models.places import file_of, folder_of, pin_of
from darkroom.worker.models.weights import WeightsFile, check_kinds, inspect_weights
from darkroom.worker.settings import WorkerSettings


@dataclass(frozen=True)
class VerifiedModel:
    """Files that may be loaded; `digests` by file name as in the lock file, `revision` a commit or "local".

    `headers` are those of the weights, by file name.
    """

    layout: Layout
    revision: str
    digests: dict[str, str]
    headers: dict[str, WeightsFile]

    def held(self, part: str) -> list[WeightsFile]:
        """The headers of the files that this part's weights are among."""
        return _held(self.layout, self.headers, part)


def verify_model(entry: ModelEntry, settings: WorkerSettings, progress: Progress | None = None) -> VerifiedModel:
    """Find the model's files and check every one of them. Raises a ModelError.

    A model of the operator's own is pinned when it is first used.
    """
    with one_door(entry.name):
        locked = _pin(entry, settings)
        if locked:
            _check_present(entry, settings, locked)
        layout = _layout(entry, settings, locked)
        headers = inspect_layout(layout)
        _check_headers(family(entry.family), layout, headers)
        if locked is None:
            digests = _pin_local(entry, layout, settings, progress)
            return VerifiedModel(layout, LOCAL, digests, headers)
        return VerifiedModel(layout, locked.revision, verify(entry.name, layout.files, locked, progress), headers)


def inspect_model(entry: ModelEntry, settings: WorkerSettings) -> dict[str, WeightsFile]:
    """What the model's weights are, from their headers, unverified; by file name. Raises a ModelError."""
    with one_door(entry.name):
        return inspect_layout(find_layout(entry, settings))


def inspect_layout(layout: Layout) -> dict[str, WeightsFile]:
    """Every header read and checked. Raises ModelCorrupt."""
    return {name: inspect_weights(layout.files[name]) for name in layout.weights}


def find_layout(entry: ModelEntry, settings: WorkerSettings) -> Layout:
    """Which files the model consists of, unverified. Raises a ModelError."""
    return _layout(entry, settings, _pin(entry, settings))


def _check_headers(spec: FamilySpec, layout: Layout, headers: dict[str, WeightsFile]) -> None:
    """What headers and configs alone tell. Raises ModelIncompatible."""
    for header in headers.values():
        if layout.single:
            check_checkpoint(spec, header)
            check_kinds(header, LOADED)
        else:
            check_kinds(header)
    for part in spec.modules:
        path = layout.configs / part / "config.json"
        check_extent(path, read_json(path), sum(len(file.tensors) for file in _held(layout, headers, part)))


def _held(layout: Layout, headers: dict[str, WeightsFile], part: str) -> list[WeightsFile]:
    return [file for name, file in headers.items() if layout.single or name.startswith(f"{part}/")]


def _layout(entry: ModelEntry, settings: WorkerSettings, locked: LockedModel | None) -> Layout:
    spec, source = family(entry.family), entry.source
    folder = folder_of(entry, settings, locked.revision if locked else LOCAL)
    if isinstance(source, FileSource):
        return file_layout(spec, source.path, folder)
    return folder_layout(spec, folder, source.variant if isinstance(source, HubSource) else None)


def _pin(entry: ModelEntry, settings: WorkerSettings) -> LockedModel | None:
    """Raises ModelMissing for a model that must have a pin and has none."""
    found, source = pin_of(entry, settings), entry.source
    if found is None and isinstance(source, HubSource):
        wanted = f"{source.repo} at {source.revision}" + (f", variant {source.variant}" if source.variant else "")
        raise ModelMissing(
            f"model {entry.name} ({wanted}) was not pulled", hint=f"run `darkroom models pull {entry.weights}`"
        )
    if found is None and isinstance(source, BundledSource):
        raise ModelMissing(
            f"no model {source.name!r} comes with Darkroom", hint="check `source` in the catalogue entry"
        )
    return found


def _check_present(entry: ModelEntry, settings: WorkerSettings, locked: LockedModel) -> None:
    """First of all, so that a lost file is named, not what a loader would fall back to."""
    hints = {HubSource: None, BundledSource: "install Darkroom again"}
    for name in locked.files:
        path = file_of(entry, settings, locked, name)
        if why := trouble(path):
            hint = hints.get(type(entry.source), "restore it; it was there when the model was pinned")
            raise ModelMissing(f"model {entry.name}: {path} {why}", hint=hint)


def _pin_local(
    entry: ModelEntry, layout: Layout, settings: WorkerSettings, progress: Progress | None
) -> dict[str, str]:
    """The digests, which are those that hold from now on."""
    assert isinstance(entry.source, FolderSource | FileSource)
    hashed = hash_files(layout.files, progress)
    source = str(entry.source.path.absolute())
    locked = pin_first(settings.models_dir, entry.weights, LockedModel(source=source, files=hashed))
    if locked.files != hashed:  # another worker pinned the name a moment ago, for other files
        raise ModelDigestMismatch(f"model {entry.name}: pinned for other files, those of {locked.source}")
    return {name: file.sha256 for name, file in hashed.items()}
