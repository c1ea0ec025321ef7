"""Models that work on one image together."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from darkroom.worker.batching.engine import Engine
from darkroom.worker.images.generate import Generator
from tests.unit.worker.conftest import Generators, Models

Duo = Mapping[str, Generator]


@pytest.fixture(scope="module")
def duo(models: Models, generators: Generators, engine: Engine) -> Duo:
    """SDXL, the same weights under another name, and a refiner."""
    base = generators("sdxl")
    twin = replace(models("sdxl"), entry=base.entry.model_copy(update={"name": "twin"}))
    found = (base, Generator(twin, engine), generators("sdxl-refiner"))
    return {generator.entry.name: generator for generator in found}
