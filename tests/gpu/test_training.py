"""Trainings on a CUDA device, in every dtype that models are loaded in, and beside pictures; the same on the CPU."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import count
from typing import Any

import pytest
import torch

from darkroom.worker.batching.engine import Engine
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.warm import warm
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.tuning import make_engine
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.training.batch import Batch
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.session import Session
from darkroom.worker.training.trainer import Trainer
from tests.conftest import TinyModels
from tests.unit.worker.conftest import make
from tests.unit.worker.training.files import good, read, zipped

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
HALVES = (torch.bfloat16, torch.float16)

Generators = Callable[[torch.dtype], Generator]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("cpu", frozenset())),
        pytest.param(("cuda", frozenset()), marks=GPU),
        pytest.param(("cuda", frozenset({"graphs"})), marks=GPU),
    ],
    ids=["cpu", "cuda", "cuda with graphs"],
)
def placement(request: pytest.FixtureRequest) -> Placement:
    device, speedups = request.param
    return Placement(torch.device(device), torch.float32, "full", 1, speedups)


@pytest.fixture(scope="module")
def engine(placement: Placement) -> Iterator[Engine]:
    with make_engine(placement) as engine:
        yield engine


@pytest.fixture(scope="module")
def generators(tiny_models: TinyModels, placement: Placement, engine: Engine) -> Generators:
    """By the dtype of the weights."""

    @cache
    def load(dtype: torch.dtype) -> Generator:
        return Generator(load_model(tiny_models("sdxl"), replace(placement, dtype=dtype), WorkerSettings()), engine)

    return load


def options(**asked: Any) -> TrainingOptions:
    return TrainingOptions(**{"steps": 12, "seed": 3, "rank": 4, "learning_rate": 1e-2, "targets": "all", **asked})


def session(generator: Generator, engine: Engine, asked: TrainingOptions) -> Session:
    latents = lambda picture: generator.autoencoder.latents(picture, generator.model.placement.dtype)  # noqa: E731
    return Session(generator.model, engine, latents, asked, read(zipped(good(3))), resolution=64)


def batch(generator: Generator, engine: Engine, asked: TrainingOptions) -> Batch:
    """The first of a session."""
    found = session(generator, engine, asked)._examples
    return found(0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_the_loss_falls(generators: Generators, engine: Engine, dtype: torch.dtype) -> None:
    generator, asked = generators(dtype), options(min_snr_gamma=None, batch_size=2, gradient_checkpointing=True)
    given = batch(generator, engine, asked)
    trainer = engine.spare(Trainer, generator.model, asked, lambda step, micro: given)
    losses = [engine.spare(trainer.advance).loss for _ in range(12)]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_has_about_the_losses_of_float32(
    generators: Generators, engine: Engine, dtype: torch.dtype
) -> None:
    exact, rough = (session(generators(one), engine, options()) for one in (torch.float32, dtype))
    for _ in range(3):
        assert rough.advance().loss == pytest.approx(exact.advance().loss, rel=0.02)


def test_pictures_beside_a_training_have_the_bits_of_before(generators: Generators, engine: Engine) -> None:
    generator = generators(torch.float32)
    warm(generator)
    before = [make(generator, seed).tobytes() for seed in range(3)]
    going, ended, enough = session(generator, engine, options(steps=10_000)), threading.Event(), threading.Event()

    def train() -> None:
        for done in count(1):
            going.advance()
            if done == 3:
                enough.set()
            if ended.is_set():
                return

    thread = threading.Thread(target=train)
    thread.start()
    try:
        assert enough.wait(60)
        first = going.step
        beside = [make(generator, seed).tobytes() for seed in range(3)]
    finally:
        ended.set()
        thread.join()
    assert going.step > first
    assert beside == before
    assert [make(generator, seed).tobytes() for seed in range(3)] == before


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_it_goes_on_from_a_checkpoint_of_the_same_device(
    generators: Generators, engine: Engine, dtype: torch.dtype
) -> None:
    generator, asked = generators(dtype), options(steps=6, text_encoder=True)
    whole = session(generator, engine, asked)
    kept = [(whole.advance(), whole.checkpoint())[1] for _ in range(6)]
    resumed = session(generator, engine, asked)
    assert resumed.resume(kept[2]) == []
    assert (resumed.step, list(resumed.losses)) == (3, list(whole.losses)[:3])
    while resumed.step < resumed.steps:
        resumed.advance()
    if generator.model.placement.device.type == "cpu":
        assert resumed.lora() == whole.lora()
    assert list(resumed.losses) == pytest.approx(list(whole.losses), rel=0.02)


def test_a_step_that_overflows_in_float16_is_passed_over(generators: Generators, engine: Engine) -> None:
    generator, asked = generators(torch.float16), options(prior_loss_weight=1e4)
    learned = batch(generator, engine, asked)
    given = replace(learned, prior=learned)
    begin = lambda: engine.spare(Trainer, generator.model, asked, lambda step, micro: given)  # noqa: E731
    trainer = begin()
    before = engine.spare(trainer.lora, {})
    assert engine.spare(trainer.advance).gradient_norm is None
    assert engine.spare(trainer.lora, {}) == before
    resumed = begin()
    assert engine.spare(resumed.resume, engine.spare(trainer.checkpoint)) == []
    norms = [engine.spare(resumed.advance).gradient_norm for _ in range(11)]
    assert norms[-1] is not None
    assert engine.spare(resumed.lora, {}) != before
