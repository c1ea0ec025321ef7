"""LoRAs that belong to the tenant of a job: brought from the store to the model that is to use them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import structlog

from darkroom.storage.errors import ObjectCorrupt, ObjectNotFound, ObjectTooLarge
from darkroom.tasks.adapters import OwnOffer
from darkroom.tasks.own_loras import MOST_BYTES, key_of, seen_by
from darkroom.tasks.requests import JobRequest
from darkroom.tasks.requests.loras import Lora
from darkroom.tasks.validate import check_kept
from darkroom.worker.adapters.library import Library
from darkroom.worker.adapters.own_files import OwnFiles
from darkroom.worker.errors import AdapterDigestMismatch, AdapterError, AdapterMissing
from darkroom.worker.images.generate import Generator


class Readable(Protocol):
    """What is needed of a store."""

    def exists(self, key: str) -> bool:
        """Whether something lies under the key."""

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        """The bytes under the key, so many at most."""


@contextmanager
def own_at_hand(request: JobRequest, generator: Generator, files: OwnFiles, store: Readable) -> Iterator[None]:
    """In the context the model has the tenant's own LoRAs that the request names, if it names some.

    Raises an AdapterError that is the caller's fault for one that is gone, changed or does not fit, InvalidRequest
    where all of them have too large ranks together, and what the store raises.
    """
    named: list[Lora] = [lora for lora in getattr(request, "loras", []) if lora.own]
    adapters = generator.adapters
    if not named or adapters is None:  # such a model refuses all LoRAs
        yield
        return
    with ExitStack() as stack:
        tenant, library = request.tenant, adapters.library
        found = [stack.enter_context(_at_hand(lora, tenant, generator, library, files, store)) for lora in named]
        check_kept(request, seen_by(generator.entry, found), {})  # now that their ranks are known
        yield


@contextmanager
def _at_hand(
    lora: Lora, tenant: str, generator: Generator, library: Library, files: OwnFiles, store: Readable
) -> Iterator[OwnOffer]:
    sha256 = str(lora.sha256)
    key = key_of(tenant, lora.name, sha256)
    with ExitStack() as stack:
        try:
            if not store.exists(key):  # whatever lies on this machine: what was deleted is not used any more
                raise _gone(sha256)
            path = stack.enter_context(files.held(sha256, lambda: _fetched(store, key, sha256)))
            offer = library.add_own(lora.name, path, sha256, generator.entry.family)
        except AdapterError as error:
            raise _of_tenant(error, lora.name) from error
        yield offer


def _fetched(store: Readable, key: str, sha256: str) -> bytes:
    try:
        data = store.get(key, limit=MOST_BYTES)
    except ObjectNotFound:
        raise _gone(sha256) from None
    except (ObjectCorrupt, ObjectTooLarge) as error:
        raise AdapterDigestMismatch(error.message) from error
    structlog.get_logger().info("adapter.fetched", key=key, bytes=len(data))
    return data


def _gone(sha256: str) -> AdapterMissing:
    hint = "it was deleted since the job was submitted: add it again, or submit the job without it"
    return AdapterMissing(f"the file of SHA-256 {sha256} is not in the store", hint=hint)


def _of_tenant(error: AdapterError, name: str) -> AdapterError:
    """Told to the caller, who alone can mend it."""
    hint = "add the file to the tenant's LoRAs again" if isinstance(error, AdapterDigestMismatch) else error.hint
    own = type(error)(f"the tenant's LoRA {name}: {error.message}", hint=hint)
    own.callers_fault = True
    return own
