"""The door through which faults of an adapter's files come: read as a model's files are, they are not the model's."""

from collections.abc import Iterator
from contextlib import contextmanager

from darkroom.worker.errors import (
    AdapterCorrupt,
    AdapterDigestMismatch,
    AdapterError,
    AdapterIncompatible,
    AdapterMissing,
    AdapterUnsafe,
    ModelCorrupt,
    ModelDigestMismatch,
    ModelError,
    ModelIncompatible,
    ModelMissing,
    ModelUnsafe,
)

_OURS: dict[type[ModelError], type[AdapterError]] = {
    ModelMissing: AdapterMissing,
    ModelCorrupt: AdapterCorrupt,
    ModelDigestMismatch: AdapterDigestMismatch,
    ModelUnsafe: AdapterUnsafe,
    ModelIncompatible: AdapterIncompatible,
}


@contextmanager
def adapter_door(hint: str) -> Iterator[None]:
    """A ModelError becomes an AdapterError of the same message; `hint` stands for one that speaks of models."""
    try:
        yield
    except ModelError as error:
        kind = _OURS.get(type(error))
        if kind is None:
            raise
        raise kind(error.message, hint=hint if error.hint == type(error).hint else error.hint) from error
