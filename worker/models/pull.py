"""Fetching a model from the Hugging Face hub: the family's files in safe formats, at one commit, pinned by digest."""

import re
from collections.abc import Callable
from typing import Any

from huggingface_hub import snapshot_download

from darkroom.tasks.catalogue import HubSource, ModelEntry
from darkroom.worker.errors import ModelCorrupt, ModelDigestMismatch, ModelIncompatible, ModelUnsafe
from darkroom.worker.models.digests import Progress, hash_files, verify
from darkroom.worker.models.families import FamilySpec, family
from darkroom.worker.models.fetching import fetch
from darkroom.worker.models.hub import RemoteModel, hub_door, list_remote
from darkroom.worker.models.layout import TOKENIZER_FILES, folder_layout
from darkroom.worker.models.lockfile import LOCAL, LockedFile, LockedModel, pin
from darkroom.worker.models.naming import PICKLES, weight_pattern, weight_stem
from darkroom.worker.models.places import folder_of, pin_of
from darkroom.worker.models.sources import inspect_layout
from darkroom.worker.settings import WorkerSettings


def pull(
    entry: ModelEntry,
    settings: WorkerSettings,
    *,
    listing: Callable[[str, str], RemoteModel] = list_remote,
    snapshot: Callable[..., Any] = snapshot_download,
    progress: Progress | None = None,
) -> LockedModel:
    """Fetch and verify the model, and pin it where it was not; what is there and right already is not fetched again.

    A pinned model is fetched at its commit and held against its digests. `progress` hears bytes: those fetched, then
    from 0 again those verified. Raises a ModelError.
    """
    source, spec = entry.source, family(entry.family)
    if not isinstance(source, HubSource):
        at = folder_of(entry, settings, LOCAL)
        raise ModelIncompatible(f"model {entry.name} lies at {at}: there is nothing to pull", hint="")
    pinned = pin_of(entry, settings)
    if pinned and _complete(entry, settings, pinned, progress):
        return pinned
    with hub_door(source):
        remote = fetch(
            source,
            pinned.revision if pinned else source.revision,
            lambda commit: folder_of(entry, settings, commit),
            lambda remote: wanted_files(spec, list(remote.files), source.variant),
            listing=listing,
            snapshot=snapshot,
            progress=progress,
        )
        return _pin(entry, settings, remote, pinned, progress)


def wanted_files(spec: FamilySpec, names: list[str], variant: str | None) -> list[str]:
    """Of a repository's files those that the family loads, and its licence and card.

    A part that has no file of the variant is taken without it. Raises ModelIncompatible for a part that is not there,
    ModelUnsafe where there are only pickles.
    """
    wanted = [name for name in names if re.fullmatch(r"(model_index|preview)\.json|(LICENSE|README)[^/]*", name)]
    for part in (*spec.components, "scheduler"):
        own = [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
        if not own:
            raise ModelIncompatible(f"the repository has no {part}, which the family {spec.name} needs")
        wanted += [f"{part}/{name}" for name in _part_files(spec, part, own, variant)]
    return wanted


def _part_files(spec: FamilySpec, part: str, names: list[str], variant: str | None) -> list[str]:
    if part.startswith("tokenizer"):
        return [name for name in names if "/" not in name and name.endswith(TOKENIZER_FILES)]
    if part == "scheduler":
        return [name for name in names if name == "scheduler_config.json"]
    for tried in dict.fromkeys((variant, None)):
        weights = [name for name in names if weight_pattern(weight_stem(spec, part), tried).fullmatch(name)]
        if any(name.endswith(".safetensors") for name in weights):
            return ["config.json", *weights]
    pickled = [name for name in names if name.endswith(PICKLES)]
    if pickled:
        raise ModelUnsafe(
            f"{part}: the repository has {pickled[0]}, which can run code when loaded, and no .safetensors",
            hint="choose a revision or a repository with .safetensors weights",
        )
    raise ModelIncompatible(f"{part}: the repository has no weights for it")


def _complete(entry: ModelEntry, settings: WorkerSettings, pinned: LockedModel, progress: Progress | None) -> bool:
    """Whether every pinned file is there and right; removes those that are not, so that they are fetched again."""
    folder = folder_of(entry, settings, pinned.revision)
    there = {name: folder / name for name in pinned.files if (folder / name).is_file()}
    found = hash_files(there, progress)
    wrong = [name for name in there if found[name] != pinned.files[name]]
    for name in wrong:
        there[name].unlink()
    return not wrong and len(there) == len(pinned.files)


def _pin(
    entry: ModelEntry,
    settings: WorkerSettings,
    remote: RemoteModel,
    pinned: LockedModel | None,
    progress: Progress | None,
) -> LockedModel:
    assert isinstance(entry.source, HubSource)
    layout = folder_layout(family(entry.family), folder_of(entry, settings, remote.revision), entry.source.variant)
    inspect_layout(layout)
    if pinned:
        verify(entry.name, layout.files, pinned, progress)
        return pinned
    files = hash_files(layout.files, progress)
    _check_remote(entry.name, files, remote)
    source = entry.source
    locked = LockedModel(
        source=source.repo, asked=source.revision, revision=remote.revision, variant=source.variant, files=files
    )
    return pin(settings.models_dir, entry.weights, locked)


def _check_remote(name: str, files: dict[str, LockedFile], remote: RemoteModel) -> None:
    """The hub knows the digests of large files: a download that went wrong is not pinned."""
    for file, found in files.items():
        known = remote.files.get(file)
        if known and known.sha256 and known.sha256 != found.sha256:
            raise ModelCorrupt(f"model {name}: {file} did not arrive as the hub has it")
        if known is None:
            raise ModelDigestMismatch(f"model {name}: {file} is not of the repository", hint="delete it and pull again")
