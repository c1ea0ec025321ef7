"""What `darkroom replay` is given: a manifest's file, its storage key, or a job's id; and whether the three agree."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from darkroom.cli.errors import FileFault
from darkroom.cli.reading import local_path
from darkroom.storage import ObjectStore, StorageNotConfigured, StorageSettings, open_store
from darkroom.storage.errors import ObjectNotFound
from darkroom.tasks import Darkroom, Job, JobNotFinished, TaskSettings
from darkroom.tasks.marks import expecting

if TYPE_CHECKING:
    from darkroom.worker.images.differences import Difference
    from darkroom.worker.images.manifest import Manifest

_NAMED_BY_DIGEST = re.compile(r"(^|/)manifest-[0-9a-f]{16}\.json$")


@dataclass(frozen=True)
class Recorded:
    """A manifest's bytes and its key (of a file: the name); the store of its pictures; the job that was asked for."""

    data: bytes
    key: str
    store: ObjectStore | None
    job: Job | None = None


def find(given: str) -> Recorded:
    """The manifest that is meant: of a file of this machine, a job by its id, or a storage key.

    Raises FileFault, StorageError, JobNotFound, JobNotFinished, JobFailed, QueueError.
    """
    path = local_path(given, "MANIFEST")
    if path.is_file():
        return Recorded(path.read_bytes(), path.name, _store_around(path))
    job = _job(given)
    key = job.result.manifest if job and job.result else given
    expected = expecting(TaskSettings()) if job else None  # of a job, a store that is away has lost nothing
    try:
        store = open_store(expected=expected)
    except StorageNotConfigured:
        if job:
            raise
        raise FileFault(f"{given}: no such file", hint="for a storage key, set DARKROOM_STORAGE_URL") from None
    try:
        return Recorded(store.get(key), key, store, job)
    except ObjectNotFound as error:
        if job:
            raise
        raise ObjectNotFound(f"{given}: no such file here, and {error.message}") from None


def disagreements(recorded: Recorded, manifest: "Manifest") -> list["Difference"]:
    """What the manifest says otherwise than its name, which holds its digest, and than the job's record."""
    from darkroom.worker.images.differences import Difference, differences
    from darkroom.worker.images.manifest import manifest_key

    key, own = recorded.key, manifest_key(manifest.job_id, recorded.data)
    name = own.rpartition("/")[2]
    found = []
    if _NAMED_BY_DIGEST.search(key) and key not in (own, name):
        found.append(Difference("manifest", key, own if "/" in key else name))
    if recorded.job:
        found += differences(*_both(manifest, recorded.job), "record.")
    return found


def _job(given: str) -> Job | None:
    """The job, where an id was given."""
    try:
        job_id = str(UUID(given))
    except ValueError:
        return None
    with Darkroom() as client:
        job = client.get(job_id)
    if not job.state.final:
        raise JobNotFinished(f"job {job_id} is {job.state}: there is no manifest yet", hint="wait for its end")
    return job.raise_for_state()


def _store_around(file: Path) -> ObjectStore | None:
    """Where the pictures of a manifest's file may be: the configured store, else the folder around the file."""
    try:
        return open_store()
    except StorageNotConfigured:
        root = file.resolve().parent.parent
        return open_store(StorageSettings(storage_url=root.as_uri())) if root.name else None


def _both(manifest: "Manifest", job: Job) -> tuple[dict[str, object], dict[str, object]]:
    """What manifest and record both know of a job, as plain data."""
    told = {str(image.index): image.model_dump() for image in job.images}
    made = {str(i.index): i.model_dump(exclude={"pixels_sha256", "calls"}) for i in manifest.images}
    made |= {str(sample.index): sample.model_dump() for sample in manifest.samples}
    told_files = {file.place.replace("/", "."): file.model_dump() for file in job.files}
    files = {file.place: file.model_dump(exclude={"calls"}) for file in manifest.files}
    ours, theirs = manifest.request.model_dump(mode="json"), job.request.model_dump(mode="json")
    return (
        {"job_id": manifest.job_id, "request": ours, "images": made, "files": files},
        {"job_id": job.id, "request": theirs, "images": told, "files": told_files},
    )
