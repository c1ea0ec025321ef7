"""LoRAs by row on a CUDA device: with recorded graphs, with more of them than the bank has room for, and again."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.warm import warm
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.unit.worker.adapters.stocked import LORAS, stocked
from tests.unit.worker.conftest import make as made_by

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

IMAGES = 48
ASKED: list[list[str]] = [
    [],
    *([name] for name in LORAS),
    ["attention:0.5", "told:0.5"],
    ["wide:0.3", "convolution:0.5"],
]


@pytest.fixture(scope="module", params=["none", "graphs", "compile, graphs"])
def settings(request: pytest.FixtureRequest) -> WorkerSettings:
    return WorkerSettings.model_validate({"device": "cuda", "dtype": "float32", "speedups": request.param})


@pytest.fixture(scope="module")
def model(tiny_models: TinyModels, settings: WorkerSettings) -> LoadedModel:
    return load_model(tiny_models("sdxl"), choose_placement(settings), settings)


@pytest.fixture(scope="module")
def generator(model: LoadedModel, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """Its bank holds the widest LoRA and one more."""
    generator = stocked(model, engine, tmp_path_factory.mktemp("loras"), pages=5)
    warm(generator)
    return generator


def make(generator: Generator, seed: int, ticket: Ticket) -> Image.Image:
    asked: dict[str, Any] = {"loras": ASKED[seed % len(ASKED)], "num_inference_steps": 2 + seed % 5}
    return made_by(generator, seed, ticket=ticket, **asked)


def test_unlike_images_share_calls_and_are_made_again_to_the_bit(generator: Generator, engine: Engine) -> None:
    tickets = [Ticket() for _ in range(IMAGES)]
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(make, [generator] * IMAGES, range(IMAGES), tickets))
    assert generator.adapters and generator.adapters.stats().evictions
    assert any("@" in str(ticket.placements) for ticket in tickets)
    for seed, (image, ticket) in enumerate(zip(made, tickets, strict=True)):
        alone = make(generator, seed, Ticket(solo=True))
        assert np.abs(np.asarray(image, int) - np.asarray(alone, int)).max() <= 8
        again = make(generator, seed, Ticket(script=Script(str(ticket.placements))))
        assert again.tobytes() == image.tobytes(), seed


def test_plain_images_are_those_of_a_worker_without_a_bank(
    generator: Generator, model: LoadedModel, engine: Engine, tmp_path: Path
) -> None:
    alone = [made_by(Generator(model, engine), seed) for seed in range(3)]
    assert [made_by(generator, seed).tobytes() for seed in range(3)] == [image.tobytes() for image in alone]
