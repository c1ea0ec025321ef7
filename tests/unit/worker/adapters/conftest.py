"""The layers that LoRAs are held against."""

import pytest

from darkroom.worker.adapters.names import ModelLayers
from tests.unit.worker.conftest import Models


@pytest.fixture(scope="session")
def layers(models: Models) -> ModelLayers:
    """Of the tiny SDXL, whose middle is 32 wide."""
    return ModelLayers(models("sdxl").components)
