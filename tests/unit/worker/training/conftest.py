"""Models to train on, and batches made by hand."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from darkroom.tasks.catalogue import Family
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.training.batch import Batch, Conditioning
from darkroom.worker.training.conditioning import encode_captions
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.trainer import Batches, Trainer
from tests.unit.worker.conftest import Models

CAPTIONS = ("a red fox", "", "a small green house by the sea", "a fox")

#: What a model predicts, and of which family it is.
SUBJECTS: dict[str, Family] = {"sdxl": "sdxl", "playground": "playground", "sd": "sd", "sd-v": "sd"}

Subjects = Callable[[str], LoadedModel]


@pytest.fixture(scope="session")
def subjects(models: Models) -> Subjects:
    @cache
    def load(name: str) -> LoadedModel:
        model = models(SUBJECTS[name])
        if name != "sd-v":
            return model
        scheduler = model.components["scheduler"]
        predicting = type(scheduler).from_config(scheduler.config, prediction_type="v_prediction")
        return replace(model, components={**model.components, "scheduler": predicting})

    return load


def options(**asked: Any) -> TrainingOptions:
    return TrainingOptions(**{"steps": 12, "seed": 7, "rank": 4, "learning_rate": 1e-2, "warmup_steps": 2, **asked})


def batches(model: LoadedModel, asked: TrainingOptions) -> Batches:
    """Four examples that take turns, of 64 x 48 pixels."""
    conditioning = [_encoded(model, caption) for caption in CAPTIONS]
    latents = torch.randn((len(CAPTIONS), 4, 6, 8), generator=torch.Generator().manual_seed(3)) / 2

    def batch(step: int, micro: int) -> Batch:
        first = (step * asked.gradient_accumulation + micro) * asked.batch_size
        keys = tuple(range(first, first + asked.batch_size))
        chosen = [key % len(CAPTIONS) for key in keys]
        captions = tuple(CAPTIONS[index] for index in chosen) if asked.text_encoder else ()
        said = None if asked.text_encoder else _together([conditioning[index] for index in chosen])
        sizes = None if model.family.name == "sd" else torch.tensor([[48.0, 64, 0, 0, 48, 64]] * len(keys))
        return Batch(latents[chosen], keys, captions, said, sizes)

    return batch


def train(model: LoadedModel, asked: TrainingOptions, steps: int = 0) -> Trainer:
    """So many steps of it."""
    trainer = Trainer(model, asked, batches(model, asked), "a dataset")
    for _ in range(steps):
        trainer.advance()
    return trainer


def _encoded(model: LoadedModel, caption: str) -> Conditioning:
    with torch.no_grad():
        return encode_captions(model, [caption])


def _together(rows: list[Conditioning]) -> Conditioning:
    pooled = [row.pooled for row in rows if row.pooled is not None]
    return Conditioning(torch.cat([row.states for row in rows]), torch.cat(pooled) if pooled else None)
