"""Captions as the denoiser reads them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.models.readers import Reader
from darkroom.worker.training.batch import Conditioning


def encode_captions(
    model: LoadedModel, captions: Sequence[str], encoders: Mapping[str, Any] | None = None
) -> Conditioning:
    """As a job's prompts are encoded, read to their end; `encoders` stand in for the model's own, by name.

    All are as long as the longest, in whole chunks. An empty caption is zeros where the model says that it is for an
    empty prompt: there it is the absence of a text that guidance leads away from.
    """
    spec, components = model.family, {**model.components, **(encoders or {})}
    readers = [
        Reader(components[tokenizer], components[encoder], spec.read_layer, model.placement.device)
        for tokenizer, encoder in zip(spec.tokenizers, spec.encoders, strict=True)
    ]
    reads = [*zip(*(reader.read_together(captions) for reader in readers), strict=True)]  # by caption
    length = max(one.states.shape[1] for row in reads for one in row)
    states = [
        torch.cat([reader.padded(one, length) for reader, one in zip(readers, row, strict=True)], dim=-1)
        for row in reads
    ]
    pooled = [row[-1].pooled for row in reads if row[-1].pooled is not None]
    found = [torch.cat(states), *([torch.cat(pooled)] if pooled else [])]
    if model.options.get("force_zeros_for_empty_prompt"):
        found = [_zeroed(rows, captions) for rows in found]
    return Conditioning(*found)


def _zeroed(rows: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
    said = torch.tensor([bool(caption) for caption in captions], device=rows.device, dtype=rows.dtype)
    return rows * said.view(-1, *[1] * (rows.dim() - 1))
