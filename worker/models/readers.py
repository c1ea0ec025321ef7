"""One text encoder with its tokenizer: from a text to embeddings, in as many chunks as it has."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from darkroom.worker.models.words import Long


@dataclass(frozen=True)
class Read:
    """What was read of a text: `states` (1, 77 n, width) of n chunks, `pooled` (1, width) of the first, if any.

    `cut`: the text went on.
    """

    states: torch.Tensor
    pooled: torch.Tensor | None = None
    cut: bool = False


@dataclass(frozen=True)
class Reader:
    """Reads texts with a text encoder, and changes nothing about it.

    `layer`: which one's states are taken, counted from the last, 1; those of the last go through the final norm
    (diffusers, `encode_prompt` of both pipelines). `skip` passes over further ones.
    """

    tokenizer: Any
    encoder: Any
    layer: int
    device: torch.device
    skip: int = 0

    @property
    def room(self) -> int:
        """Tokens of a chunk without start and end."""
        return int(self.tokenizer.model_max_length) - 2

    def tokens(self, text: str) -> list[int]:
        """Of the text itself, however many."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
        return found

    def read(self, text: str, long: Long = "chunk") -> Read:
        """A whole text, or its beginning."""
        tokens, room = self.tokens(text), self.room
        cut = long == "cut" and len(tokens) > room
        chunks = [self.chunk(part) for part in self._parts(tokens[:room] if cut else tokens)]
        return Read(torch.cat([chunk.states for chunk in chunks], dim=1), chunks[0].pooled, cut)

    def read_together(self, texts: Sequence[str]) -> list[Read]:
        """Whole texts in one call of the encoder: equal to `read` but for rounding."""
        parts = [self._parts(self.tokens(text)) for text in texts]
        counts = [len(one) for one in parts]
        ids, masks = zip(*(self._padded_ids(part) for one in parts for part in one), strict=True)
        found = self.encode(torch.cat(ids), None if masks[0] is None else torch.cat(masks))
        pooled = [None] * len(texts) if found.pooled is None else torch.split(found.pooled, counts)
        return [
            Read(states.flatten(0, 1)[None], None if first is None else first[:1])
            for states, first in zip(torch.split(found.states, counts), pooled, strict=True)
        ]

    def padded(self, read: Read, length: int) -> torch.Tensor:
        """The states (1, length, width): chunks of the empty text follow."""
        missing = (length - read.states.shape[1]) // (self.room + 2)
        return torch.cat([read.states, *[self.nothing.states] * missing], dim=1) if missing else read.states

    @cached_property
    def nothing(self) -> Read:
        """The empty text."""
        return self.chunk([])

    def chunk(self, tokens: Sequence[int]) -> Read:
        """At most `room` tokens, with start and end and padding as the tokenizer would have them."""
        return self.encode(*self._padded_ids(tokens))

    def _parts(self, tokens: Sequence[int]) -> list[Sequence[int]]:
        """By chunks; of no tokens one that is empty."""
        return [tokens[start : start + self.room] for start in range(0, max(len(tokens), 1), self.room)]

    def _padded_ids(self, tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Of one chunk, both (1, 77): see `encode`."""
        its = self.tokenizer
        whole = [its.bos_token_id, *tokens, its.eos_token_id]
        padding = self.room + 2 - len(whole)
        ids = torch.tensor([[*whole, *[its.pad_token_id] * padding]], dtype=torch.long)
        masked = getattr(self.encoder.config, "use_attention_mask", None)
        return ids, torch.tensor([[1] * len(whole) + [0] * padding]) if masked else None

    def encode(self, ids: torch.Tensor, mask: torch.Tensor | None) -> Read:
        """Token ids (n, 77), and which of them may be looked at (n, 77); None: all."""
        mask = None if mask is None else mask.to(self.device)
        found = self.encoder(ids.to(self.device), attention_mask=mask, output_hidden_states=True)
        pooled = found[0] if found[0].dim() == 2 else None
        if self.layer == 1 and not self.skip:
            return Read(found[0], pooled)
        states = found.hidden_states[-(self.layer + self.skip)]
        return Read(self._norm(states) if self.layer == 1 else states, pooled)

    @property
    def _norm(self) -> Any:
        """Transformers 5 has it in the encoder itself; diffusers 0.42 looks where it was before."""
        return getattr(self.encoder, "text_model", self.encoder).final_layer_norm
