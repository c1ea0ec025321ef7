"""Prompts become the pipelines' keyword arguments, as diffusers' `encode_prompt` does it, and more.

Written anew since diffusers reads no more than one chunk of a text. Of one chunk the bits are diffusers' own; as there,
`clip_skip` is for the prompt alone, and the negative prompt is read from the layer that the model is trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from darkroom.worker.models import weighted
from darkroom.worker.models.readers import Read, Reader
from darkroom.worker.models.words import Words

Conditioning = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Encoded:
    """The pipelines' keyword arguments, and whether a text was cut."""

    conditioning: Conditioning
    cut: bool


def encode(
    pipe: Any, encoders: Sequence[tuple[str, str]], layer: int, words: Words, device: torch.device | None = None
) -> Encoded:
    """Embeddings (1, 77 n, width): those of all encoders side by side; pooled ones (1, width) where the last one pools.

    `encoders`: the pipeline's names of tokenizers and text encoders. Prompt and negative prompt have the same length.
    """
    device = device or pipe._execution_device
    parts = [(getattr(pipe, tokenizer), getattr(pipe, encoder), layer, device) for tokenizer, encoder in encoders]
    skipping = [Reader(*part, words.clip_skip or 0) for part in parts]
    reading = [Reader(*part) for part in parts]
    zeros = words.negative_prompt is None and pipe.config.get("force_zeros_for_empty_prompt", False)
    said, unsaid = [], []
    for index, (skips, reads) in enumerate(zip(skipping, reading, strict=True)):  # each has to come but once
        prompt, negative = words.fields(index)
        said.append(_read(skips, words, prompt))
        if words.guidance and not zeros:
            unsaid.append(_read(reads, words, negative))
    length = max(words.length, *(one.states.shape[1] for one in (*said, *unsaid)))
    dtype = parts[-1][1].dtype
    found = {"prompt_embeds": _joined(skipping, said, length, dtype, device)}
    if words.guidance:
        found["negative_prompt_embeds"] = (
            _joined(reading, unsaid, length, dtype, device) if unsaid else torch.zeros_like(found["prompt_embeds"])
        )
    found |= _pooled(said[-1].pooled, unsaid[-1].pooled if unsaid else None, words)
    return Encoded(found, any(one.cut for one in (*said, *unsaid)))


def _read(reader: Reader, words: Words, field: str) -> Read:
    text = getattr(words, field) or ""
    return weighted.read(reader, field, text, words.long) if words.syntax == "compel" else reader.read(text, words.long)


def _joined(
    readers: Sequence[Reader], reads: Sequence[Read], length: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    sides = [reader.padded(read, length) for reader, read in zip(readers, reads, strict=True)]
    return torch.cat(sides, dim=-1).to(dtype=dtype, device=device)


def _pooled(said: torch.Tensor | None, unsaid: torch.Tensor | None, words: Words) -> Conditioning:
    if said is None:
        return {}
    negative = torch.zeros_like(said) if unsaid is None else unsaid
    return {"pooled_prompt_embeds": said} | ({"negative_pooled_prompt_embeds": negative} if words.guidance else {})
