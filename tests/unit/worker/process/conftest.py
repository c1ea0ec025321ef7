"""What tests of pinned models share."""

from collections.abc import Iterator
from typing import Any

import pytest

from darkroom.tasks.catalogue import ModelEntry
from darkroom.worker.batching.engine import Engine


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


def in_catalogue(entry: ModelEntry) -> dict[str, Any]:
    """The entry as a catalogue file has it, with the kinds left to the family."""
    kept = {"name", "family", "source", "defaults", "limits", "schedulers"}
    return entry.model_dump(mode="json", include=kept)
