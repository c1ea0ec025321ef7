"""The one door to the Hugging Face hub: what a repository holds, and its errors as ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm

from darkroom.tasks.sources import HubSource, WeightsHubSource
from darkroom.worker.errors import ModelError, ModelMissing
from darkroom.worker.models.digests import ByteCounter, Progress
from darkroom.worker.models.door import first_line

#: The root of the HTTP client's errors, whichever client the installed hub library is built on.
_HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]

#: huggingface_hub's name of the bar that counts the bytes which have arrived on disk.
_BYTES_BAR = "huggingface_hub.snapshot_download"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file; `sha256` where the hub knows it (large files)."""

    bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A repository at one commit."""

    revision: str
    files: dict[str, RemoteFile]


def list_remote(repo: str, revision: str) -> RemoteModel:
    """What the hub has; a branch or tag is resolved to its commit. Raises the hub library's errors."""
    info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    files = {
        file.rfilename: RemoteFile(file.size or 0, file.lfs.sha256 if file.lfs else None)
        for file in info.siblings or []
    }
    return RemoteModel(str(info.sha), files)


@contextmanager
def hub_door(source: HubSource | WeightsHubSource) -> Iterator[None]:
    """Errors of the hub and of the way there become ModelMissing with what to do."""
    try:
        yield
    except ModelError:
        raise
    except (HfHubHTTPError, HFValidationError, OSError, _HTTPError) as error:
        raise _ours(source, error) from error


def _ours(source: HubSource | WeightsHubSource, error: Exception) -> ModelMissing:
    repo = source.repo
    if isinstance(error, GatedRepoError):
        page = f"https://huggingface.co/{repo}"
        return ModelMissing(f"{repo} is gated", hint=f"accept its licence on {page} and set HF_TOKEN to your token")
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        hint = "check `repo` in the catalogue entry; for a private one set HF_TOKEN"
        return ModelMissing(f"the hub has no repository {repo!r} that is open to you", hint=hint)
    if isinstance(error, RevisionNotFoundError):
        hint = "check `revision` in the catalogue entry"
        return ModelMissing(f"{repo} has no revision {source.revision!r}", hint=hint)
    if isinstance(error, HfHubHTTPError):
        return ModelMissing(f"the hub refused {repo}: {first_line(error)}", hint="try again later; check HF_TOKEN")
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        return ModelMissing(f"{error.filename or repo}: {error.strerror}", hint="the models folder must be writable")
    offline = isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError)
    hint = "check the network and HF_HUB_OFFLINE" if offline else "check the network"
    hint += "; or copy the files here and name their place in your catalogue file"
    return ModelMissing(f"the hub cannot be reached for {repo}: {first_line(error)}", hint=hint)


def byte_bar(total: int, progress: Progress | None) -> type[tqdm]:
    """A class for the hub library's bars that shows nothing and tells `progress` the bytes that arrived."""
    counter = ByteCounter(total, progress)

    class ByteBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts = kwargs.get("name") == _BYTES_BAR
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if self._counts:
                counter.add(int(n or 0))

    return ByteBar
