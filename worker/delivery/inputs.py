"""The files of a job's inputs."""

from collections.abc import Callable
from contextlib import nullcontext

from darkroom.storage import ObjectStore, StorageSettings
from darkroom.storage.inputs import read_archive, read_input
from darkroom.tasks.requests import JobRequest
from darkroom.worker.kinds.sources import naming


def read_inputs(
    request: JobRequest, store: ObjectStore, settings: StorageSettings, owns_output: Callable[[str], bool]
) -> dict[str, bytes]:
    """By the places that name them. `owns_output`: whether the job of this id is the tenant's.

    Raises InputError, StorageError.
    """

    def read(name: str, reference: str) -> bytes:
        if name in request.archives:
            most = settings.input_archive_max_bytes
            return read_archive(reference, tenant=request.tenant, store=store, max_bytes=most)
        return read_input(
            reference,
            tenant=request.tenant,
            store=store,
            settings=settings,
            owns_output=owns_output,
            latents=name in (*request.latents, *request.embeddings),
        )

    found = {}
    for name, reference in request.references.items():
        with naming(name) if len(request.references) > 1 else nullcontext():
            found[name] = read(name, reference)
    return found
