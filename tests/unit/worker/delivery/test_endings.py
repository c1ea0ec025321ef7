"""What a record says of an exception, whatever the exception is."""

import pytest

from darkroom.storage import StorageError
from darkroom.tasks.errors import Fault
from darkroom.worker.delivery.endings import INTERNAL_ERROR, job_error
from darkroom.worker.errors import DatasetInvalid, GenerationFailed


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


def test_all_faults_that_an_error_names_are_recorded() -> None:
    faults = [Fault("x" * 80, "picture_too_small", f"{number:03} {'y' * 120}") for number in range(30)]
    error = DatasetInvalid(faults)
    found = job_error(error)
    assert (found.code, found.callers_fault, found.retryable) == ("dataset_invalid", True, False)
    assert found.message == error.message
    assert "019" in found.message and "020" not in found.message
    assert found.message.endswith("; and 10 more")
    assert len(job_error(GenerationFailed("x" * 9_000)).message) == 500
