"""What a record says of an exception, whatever the exception is."""

import pytest

from darkroom.storage import StorageError
from darkroom.worker.delivery.endings import INTERNAL_ERROR, job_error
from darkroom.worker.errors import GenerationFailed


class Mute(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("a \ud800 surrogate"), INTERNAL_ERROR, "ValueError: a ? surrogate"),
        (GenerationFailed("a \ud800 surrogate"), "generation_failed", "a ? surrogate"),
        (StorageError("a \ud800 surrogate"), StorageError.code, "a ? surrogate"),
        (Mute(), INTERNAL_ERROR, "Mute"),
        (KeyError(), INTERNAL_ERROR, "KeyError"),
        (SystemExit(3), INTERNAL_ERROR, "SystemExit: 3"),
    ],
)
def test_every_exception_can_be_recorded(error: BaseException, code: str, message: str) -> None:
    found = job_error(error)
    assert (found.code, found.message) == (code, message)
    assert found.model_dump_json()
