"""What tests on a CUDA device share."""

from collections.abc import Iterator

import pytest

from darkroom.worker.batching.engine import Engine
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.tuning import make_engine
from darkroom.worker.settings import WorkerSettings


@pytest.fixture(scope="module")
def engine(settings: WorkerSettings) -> Iterator[Engine]:
    """Of the module's own settings."""
    with make_engine(choose_placement(settings)) as engine:
        yield engine
