"""Fetching a LoRA from the Hugging Face hub: one file at one commit, pinned by its digest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from darkroom.tasks.adapters import LoraEntry
from darkroom.tasks.sources import WeightsHubSource
from darkroom.worker.adapters.facts import inspect_lora
from darkroom.worker.adapters.places import (
    LocatedLora,
    check_named,
    find_lora,
    locked_name,
    path_of_lora,
    pin_of_lora,
)
from darkroom.worker.errors import (
    AdapterCorrupt,
    AdapterDigestMismatch,
    AdapterIncompatible,
    AdapterMissing,
)
from darkroom.worker.models.digests import Progress, hash_files
from darkroom.worker.models.fetching import fetch
from darkroom.worker.models.hub import RemoteModel, hub_door, list_remote
from darkroom.worker.models.lockfile import LOCK_NAME, LockedFile, LockedModel, pin
from darkroom.worker.settings import WorkerSettings

NAMED = 5  # files of a repository that are told


def pull_lora(
    entry: LoraEntry,
    settings: WorkerSettings,
    *,
    listing: Callable[[str, str], RemoteModel] = list_remote,
    snapshot: Callable[..., Any] = snapshot_download,
    progress: Progress | None = None,
) -> LocatedLora:
    """Fetches and checks the LoRA's file, and pins it where it was not; what is there and right is not fetched again.

    `progress` hears bytes: those fetched, then from 0 again those verified. Raises an AdapterError, or a ModelError
    where the hub or the disk does not do as asked.
    """
    source = entry.source
    if not isinstance(source, WeightsHubSource):
        raise AdapterIncompatible(f"LoRA {entry.name} is no file of the hub: there is nothing to pull", hint="")
    pinned = pin_of_lora(entry, settings)
    if pinned and (there := _whole(entry, settings, progress)):
        return there
    with hub_door(source):
        remote = fetch(
            source,
            pinned.revision if pinned else source.revision,
            lambda commit: settings.models_dir / locked_name(entry) / commit,
            lambda remote: [_wanted(source, remote)],
            listing=listing,
            snapshot=snapshot,
            progress=progress,
        )
        folder = settings.models_dir / locked_name(entry) / remote.revision
        return _pinned(entry, settings, folder / source.file, remote, pinned, progress)


def _whole(entry: LoraEntry, settings: WorkerSettings, progress: Progress | None) -> LocatedLora | None:
    """The file where it is there and right; one that is wrong is removed, so that it is fetched again."""
    try:
        return find_lora(entry, settings, progress)
    except AdapterMissing:
        return None
    except AdapterDigestMismatch:
        wrong = path_of_lora(entry, settings, pin_of_lora(entry, settings))
        if wrong:
            wrong.unlink(missing_ok=True)
        return None


def _wanted(source: WeightsHubSource, remote: RemoteModel) -> str:
    """Raises AdapterMissing for a file that the repository does not have, and names those that it has."""
    if source.file not in remote.files:
        there = sorted(name for name in remote.files if name.endswith(".safetensors"))
        named = ", ".join(there[:NAMED]) + (f" and {len(there) - NAMED} more" if len(there) > NAMED else "")
        raise AdapterMissing(
            f"{source.repo} has no {source.file} at {source.revision}; its .safetensors files are: {named or 'none'}",
            hint="correct `file` in the catalogue entry",
        )
    return source.file


def _pinned(
    entry: LoraEntry,
    settings: WorkerSettings,
    path: Path,
    remote: RemoteModel,
    pinned: LockedModel | None,
    progress: Progress | None,
) -> LocatedLora:
    """The file that was fetched, checked against all that is known of it, and pinned."""
    assert isinstance(entry.source, WeightsHubSource)
    source = entry.source
    found = hash_files({source.file: path}, progress)[source.file]
    known = remote.files[source.file].sha256
    if known not in (None, found.sha256):
        path.unlink()
        raise AdapterCorrupt(f"LoRA {entry.name}: {source.file} did not arrive as the hub has it", hint="pull it again")
    check_named(entry, path, found)
    if pinned and pinned.files[source.file] != found:
        raise AdapterDigestMismatch(
            f"LoRA {entry.name}: {source.repo} has another {source.file} at {remote.revision} than was pinned",
            hint=f"if that is wanted, delete {locked_name(entry)} from {LOCK_NAME} and pull it again",
        )
    inspect_lora(path)  # what is none is not pinned
    files: dict[str, LockedFile] = {source.file: found}
    locked = LockedModel(source=source.repo, asked=source.revision, revision=remote.revision, files=files)
    pin(settings.models_dir, locked_name(entry), locked)
    return LocatedLora(path, found.sha256, remote.revision)
