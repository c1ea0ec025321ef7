"""Generators over real tiny pipelines, requests for them, and pictures."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.tasks.catalogue import SCHEDULERS, Family
from darkroom.tasks.requests import Request
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.steps import OnStep
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels

FAMILIES: tuple[Family, ...] = ("sd", "sdxl", "playground")
DIFFUSION = [name for name, (_, kind) in SCHEDULERS.items() if kind != "edm"]
EDM = [name for name, (_, kind) in SCHEDULERS.items() if kind == "edm"]

Models = Callable[[Family], LoadedModel]
Generators = Callable[[Family], Generator]


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


@pytest.fixture(scope="session")
def models(tiny_models: TinyModels) -> Models:
    """Each family's tiny model, loaded once; its entry allows every scheduler of its kind. Read only."""

    @cache
    def load(family: Family) -> LoadedModel:
        placement = Placement(torch.device("cpu"), torch.float32, "full", 1)
        model = load_model(tiny_models(family), placement, WorkerSettings())
        fitting = EDM if family == "playground" else DIFFUSION
        return replace(model, entry=model.entry.model_copy(update={"schedulers": fitting}))

    return load


@pytest.fixture(scope="session")
def generators(models: Models, engine: Engine) -> Generators:
    return cache(lambda family: Generator(models(family), engine))


def ask(generator: Generator, **fields: Any) -> Request:
    """A resolved request for this generator's model: 32 x 32 pixels and 3 steps unless told otherwise."""
    entry = generator.model.entry
    size = {"width": 32, "height": 32} if "image" not in fields else {}
    kind = {"kind": "img2img"} if "image" in fields else {}
    asked = {"prompt": "a red fox", "seed": 1, "num_inference_steps": 3, **size, **kind, **fields, "model": entry.name}
    return resolve(asked, {entry.name: entry}, lambda: None).filled


def make(
    generator: Generator,
    seed: int = 1,
    source: Image.Image | None = None,
    *,
    ticket: Ticket | None = None,
    on_step: OnStep = lambda *_: None,
    **fields: Any,
) -> Image.Image:
    """One picture, in a job of its own; from `source` where there is one. Solo, unless a ticket says otherwise."""
    named = {"image": "inputs/default/it.png"} if source else {}
    prepared = generator.prepare(ask(generator, **named, **fields))
    sources = {"image": source} if source else {}
    return generator.generate(prepared, seed, sources, on_step, ticket or Ticket(solo=True)).picture


def ignore(*_: Any) -> None:
    """An `on_step` that has nothing to say."""


def photo(seed: int = 0, width: int = 32, height: int = 32) -> Image.Image:
    """A picture with soft forms."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def same(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures are alike, bit for bit."""
    return one.size == other.size and one.mode == other.mode and one.tobytes() == other.tobytes()
