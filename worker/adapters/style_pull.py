"""Fetching a style adapter with its image encoder from the Hugging Face hub, at one commit, pinned by their digests."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import snapshot_download

from darkroom.tasks.adapters import StyleEntry
from darkroom.tasks.sources import StyleHubSource
from darkroom.worker.adapters.style_file import inspect_style
from darkroom.worker.adapters.style_found import LocatedStyle, find_style, hashed_style, opened_files
from darkroom.worker.adapters.style_places import (
    ENCODER,
    StyleFiles,
    asked_of,
    locked_style,
    pin_of_style,
    style_files,
)
from darkroom.worker.errors import (
    AdapterCorrupt,
    AdapterDigestMismatch,
    AdapterIncompatible,
    AdapterMissing,
)
from darkroom.worker.models.digests import Progress
from darkroom.worker.models.fetching import fetch
from darkroom.worker.models.hub import RemoteModel, hub_door, list_remote
from darkroom.worker.models.lockfile import LOCK_NAME, LockedModel, pin
from darkroom.worker.models.naming import weight_pattern
from darkroom.worker.settings import WorkerSettings

_CONFIGS = ("config.json", "preprocessor_config.json")


def pull_style(
    entry: StyleEntry,
    settings: WorkerSettings,
    *,
    listing: Callable[[str, str], RemoteModel] = list_remote,
    snapshot: Callable[..., Any] = snapshot_download,
    progress: Progress | None = None,
) -> LocatedStyle:
    """Fetches and checks the files, and pins them where they were not; what is there and right is not fetched again.

    `progress` hears bytes: those fetched, then from 0 again those verified. Raises an AdapterError, or a ModelError
    where the hub or the disk does not do as asked.
    """
    source = entry.source
    if not isinstance(source, StyleHubSource):
        raise AdapterIncompatible(f"style {entry.name} is not of the hub: there is nothing to pull", hint="")
    pinned = pin_of_style(entry, settings)
    if pinned and (there := _whole(entry, settings, progress)):
        return there
    with hub_door(source):
        remote = fetch(
            source,
            pinned.revision if pinned else source.revision,
            lambda commit: settings.models_dir / locked_style(entry) / commit,
            lambda remote: _wanted(source, remote),
            listing=listing,
            snapshot=snapshot,
            progress=progress,
        )
        folder = settings.models_dir / locked_style(entry) / remote.revision
        files = StyleFiles(folder / source.file, folder / source.image_encoder)
        return _pinned(entry, settings, files, remote, pinned, progress)


def _whole(entry: StyleEntry, settings: WorkerSettings, progress: Progress | None) -> LocatedStyle | None:
    """The files where they are there and right; those that are wrong are removed, so that they are fetched again."""
    try:
        return find_style(entry, settings, progress)
    except AdapterMissing:
        return None
    except AdapterDigestMismatch:
        files = style_files(entry, settings, pin_of_style(entry, settings))
        for path in (files.adapter, *files.encoder.iterdir()) if files else ():
            path.unlink(missing_ok=True)
        return None


def _wanted(source: StyleHubSource, remote: RemoteModel) -> list[str]:
    """Names in the repository. Raises AdapterMissing for what it does not have."""
    inside = {name: PurePosixPath(name) for name in remote.files}
    folder, weights = PurePosixPath(source.image_encoder), weight_pattern("model", None)
    encoder = [
        name
        for name, path in inside.items()
        if path.parent == folder and (path.name in _CONFIGS or weights.fullmatch(path.name))
    ]
    absent = [
        what
        for what, there in (
            (source.file, source.file in remote.files),
            (f"{folder}/config.json", f"{folder}/config.json" in encoder),
            (f"{folder}/model.safetensors", any(inside[name].name not in _CONFIGS for name in encoder)),
        )
        if not there
    ]
    if absent:
        raise AdapterMissing(
            f"{source.repo} has no {' and no '.join(absent)} at {source.revision}",
            hint="correct `file` and `image_encoder` in the catalogue entry",
        )
    return [source.file, *encoder]


def _pinned(
    entry: StyleEntry,
    settings: WorkerSettings,
    files: StyleFiles,
    remote: RemoteModel,
    pinned: LockedModel | None,
    progress: Progress | None,
) -> LocatedStyle:
    """The files that were fetched, checked against all that is known of them, and pinned."""
    assert isinstance(entry.source, StyleHubSource)
    found = hashed_style(entry, files, progress)
    for name, path in opened_files(files).items():
        in_repository = (
            entry.source.file if not name.startswith(ENCODER) else f"{entry.source.image_encoder}/{path.name}"
        )
        if remote.files[in_repository].sha256 not in (None, found[name].sha256):
            path.unlink()
            raise AdapterCorrupt(f"style {entry.name}: {name} did not arrive as the hub has it", hint="pull it again")
    if pinned and pinned.files != found:
        raise AdapterDigestMismatch(
            f"style {entry.name}: {entry.source.repo} has other files at {remote.revision} than were pinned",
            hint=f"if that is wanted, delete {locked_style(entry)} from {LOCK_NAME} and pull it again",
        )
    inspect_style(files.adapter)  # what is none is not pinned
    source, asked = asked_of(entry)
    locked = LockedModel(source=source, asked=asked, revision=remote.revision, files=found)
    pin(settings.models_dir, locked_style(entry), locked)
    return LocatedStyle(files, {name: file.sha256 for name, file in found.items()}, remote.revision)
