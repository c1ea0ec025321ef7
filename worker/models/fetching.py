"""Files of a repository on the Hugging Face hub, brought into the folder of its commit: a model's, or an adapter's."""

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from darkroom.tasks.sources import HubSource, WeightsHubSource
from darkroom.worker.errors import ModelCorrupt, ModelMissing
from darkroom.worker.models.digests import Progress
from darkroom.worker.models.hub import RemoteModel, byte_bar


def fetch(
    source: HubSource | WeightsHubSource,
    revision: str,
    folder_of: Callable[[str], Path],
    wanted: Callable[[RemoteModel], Sequence[str]],
    *,
    listing: Callable[[str, str], RemoteModel],
    snapshot: Callable[..., Any],
    progress: Progress | None,
) -> RemoteModel:
    """What the hub has at the revision, once the `wanted` files of it are there; to be called within `hub_door`.

    `folder_of` a commit. `progress` hears the bytes. Raises ModelCorrupt, ModelMissing where there is no room, what
    `wanted` raises, and the hub library's errors.
    """
    remote = listing(source.repo, revision)
    if not re.fullmatch("[0-9a-f]{40}", remote.revision):  # it becomes a folder's name
        raise ModelCorrupt(f"the hub calls the commit of {source.repo} {remote.revision!r}")
    names, folder = wanted(remote), folder_of(remote.revision)
    size = sum(remote.files[name].bytes for name in names)
    _check_space(folder, size)
    snapshot(
        repo_id=source.repo,
        revision=remote.revision,
        local_dir=folder,
        allow_patterns=[_literal(name) for name in names],
        tqdm_class=byte_bar(size, progress),
    )
    return remote


def _check_space(folder: Path, needed: int) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    free = shutil.disk_usage(existing).free
    if needed - there > free:
        raise ModelMissing(
            f"it takes {(needed - there) / 1e9:.1f} GB more, {existing} has {free / 1e9:.1f} GB free",
            hint="make room, or set DARKROOM_MODELS_DIR to a larger disk",
        )


def _literal(name: str) -> str:
    """The name as a pattern that matches it alone."""
    return re.sub(r"([*?[])", r"[\1]", name)
