"""The shared denoiser on a CUDA device: rounding, replay, memory, and how far the engine runs ahead."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.tasks.validate import resolve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.pace import AHEAD
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.device import choose_placement
from darkroom.worker.generate import Generator
from darkroom.worker.loading import load_model
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def generator(tiny_models: TinyModels, engine: Engine) -> Generator:
    settings = WorkerSettings.model_validate({"device": "cuda", "dtype": "float32"})
    return Generator(load_model(tiny_models("sdxl"), choose_placement(settings), settings), engine)


def make(generator: Generator, seed: int, ticket: Ticket) -> Image.Image:
    entry = generator.model.entry
    asked = {"prompt": f"fox {seed % 3}", "seed": seed, "num_inference_steps": 2 + seed % 5, "model": entry.name}
    request = resolve(asked, {entry.name: entry}, lambda: None).filled
    return generator.generate(generator.prepare(request), seed, None, lambda *_: None, ticket)


def test_a_loaded_engine_makes_the_same_pictures_and_makes_them_again(generator: Generator, engine: Engine) -> None:
    generator.warm()
    tickets = [Ticket() for _ in range(24)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, [generator] * 24, range(24), tickets))
    assert max(engine.stats().model_calls) >= 8
    for seed, (image, ticket) in enumerate(zip(made, tickets, strict=True)):
        alone = make(generator, seed, Ticket(solo=True))
        assert np.abs(np.asarray(image, int) - np.asarray(alone, int)).max() <= 8
        again = make(generator, seed, Ticket(script=Script(str(ticket.placements))))
        assert again.tobytes() == image.tobytes()


def test_calls_are_measured_and_the_engine_runs_little_ahead(generator: Generator, engine: Engine) -> None:
    before = engine.stats()
    make(generator, 1, Ticket())
    engine.call(engine._pace.wait, 0)
    after = engine.stats()
    assert after.busy > before.busy and 0 < after.step < 10
    assert len(engine._pace._launched) <= AHEAD
    assert not engine._pace.busy


def test_memory_of_a_large_call_is_known(generator: Generator, engine: Engine) -> None:
    generator.warm()
    assert engine._batches._capacity._largest
