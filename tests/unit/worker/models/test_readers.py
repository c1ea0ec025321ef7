"""Texts as a text encoder reads them: one by one, and together."""

import pytest
import torch

from darkroom.tasks.catalogue import Family
from darkroom.worker.models.readers import Reader
from tests.unit.worker.conftest import Models

TEXTS = ["a star", "", " ".join(["a red star on blue"] * 40), "a heart"]


@pytest.mark.parametrize("name", ["sd", "sdxl"])
@torch.no_grad()
def test_texts_read_together_are_read_as_each_by_itself(models: Models, name: Family) -> None:
    model = models(name)
    spec, parts = model.family, model.components
    for tokenizer, encoder in zip(spec.tokenizers, spec.encoders, strict=True):
        reader = Reader(parts[tokenizer], parts[encoder], spec.read_layer, model.placement.device)
        for text, found in zip(TEXTS, reader.read_together(TEXTS), strict=True):
            alone = reader.read(text)
            torch.testing.assert_close(found.states, alone.states)
            assert (found.pooled is None) == (alone.pooled is None)
            if found.pooled is not None and alone.pooled is not None:
                torch.testing.assert_close(found.pooled, alone.pooled)
    assert reader.read(TEXTS[2]).states.shape[1] > reader.room + 2
