"""A LoRA that was read, laid out as bank and text encoders take it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from darkroom.worker.adapters.bank import RANK, Plan, Sheets, pages_of
from darkroom.worker.adapters.weights import LoraLayer, LoraWeights
from darkroom.worker.models.adaptable import Delta, Slot


@dataclass(frozen=True, slots=True)
class Use:
    """A LoRA that an image is made with; `sha256` of its file.

    What its header tells: `rank` of its widest layer, `pages` that it takes in the bank; what it changes: `parts` of
    the denoiser (`darkroom.worker.models.adaptable.PARTS`), and maybe `text` encoders.
    """

    name: str
    sha256: str
    scale: float
    rank: int
    pages: int
    parts: frozenset[str]
    text: bool


@dataclass(frozen=True, slots=True)
class Lora:
    """On the host. `sheets`: what it adds to the denoiser, by part; `texts`: to text encoders, by their names."""

    sheets: Mapping[str, Sheets]
    texts: Mapping[str, Sequence[tuple[Slot, torch.Tensor, torch.Tensor]]]

    @property
    def bytes(self) -> int:
        """That it takes."""
        sheets = sum(sheet.nbytes for part in self.sheets.values() for sheet in part.values())
        return sheets + sum(down.nbytes + up.nbytes for part in self.texts.values() for _, down, up in part)


def lay_out(weights: LoraWeights, plan: Plan, text_slots: Mapping[str, Mapping[str, Slot]], dtype: torch.dtype) -> Lora:
    """As the bank of this plan takes it; `text_slots` by the encoders' names and their paths."""
    layers = weights.parts.get("unet", {})
    pages = pages_of(max((layer.rank for layer in layers.values()), default=0))
    sheets: dict[str, dict[int, torch.Tensor]] = {}
    for path, layer in layers.items():
        slot, (down, up) = plan.slot(path), plan.where(path)
        if slot.part not in sheets:
            sheets[slot.part] = {
                width: torch.zeros(count, pages, RANK, width, dtype=dtype)
                for width, count in plan.counts[slot.part].items()
            }
        _put(sheets[slot.part], down, layer.down.flatten(1))
        _put(sheets[slot.part], up, layer.up.mT)
    heard = weights.parts.keys() & text_slots.keys()
    texts = {name: _texts(weights.parts[name], text_slots[name], dtype) for name in sorted(heard)}
    return Lora(sheets, texts)


def text_deltas(lora: Lora, encoder: str, scale: float, device: torch.device) -> list[tuple[Slot, Delta]]:
    """What a text encoder's layers add, each row the same."""
    found = []
    for slot, down, up in lora.texts.get(encoder, ()):
        weight = torch.full((1, down.shape[1]), scale, dtype=down.dtype, device=device)
        found.append((slot, Delta(down.to(device), weight, up.to(device))))
    return found


def _put(sheets: dict[int, torch.Tensor], where: tuple[int, int], matrix: torch.Tensor) -> None:
    """`matrix` (rank, width)."""
    width, number = where
    sheets[width][number].view(-1, width)[: len(matrix)] = matrix


def _texts(
    layers: Mapping[str, LoraLayer], slots: Mapping[str, Slot], dtype: torch.dtype
) -> list[tuple[Slot, torch.Tensor, torch.Tensor]]:
    return [
        (slots[path], layer.down.to(dtype)[None].contiguous(), layer.up.mT.to(dtype)[None].contiguous())
        for path, layer in layers.items()
    ]
