"""What an image brings to each of its denoiser calls besides the call's own arguments: pages of LoRAs, a style."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from darkroom.worker.adapters.bank import MOST_PAGES
from darkroom.worker.adapters.lora import Use
from darkroom.worker.batching.stacking import Extra
from darkroom.worker.models.adaptable import PARTS

Pages = Mapping[str, tuple[int, ...]]


@dataclass(slots=True)
class Rows:
    """For one image; `single` holds extras of one row, which all rows of the image are copies of."""

    single: tuple[Extra, ...]
    _by_count: dict[int, tuple[Extra, ...]] = field(default_factory=dict)

    def __call__(self, rows: int) -> tuple[Extra, ...]:
        """For a call of so many rows."""
        if rows not in self._by_count:
            self._by_count[rows] = tuple(
                Extra(tuple(one.expand(rows, *one.shape[1:]) for one in extra.tensors), extra.width, extra.whole)
                for extra in self.single
            )
        return self._by_count[rows]


def lora_extras(uses: Sequence[Use], pages: Pages, dtype: torch.dtype, device: torch.device) -> tuple[Extra, ...]:
    """By `PARTS`: the pages of each LoRA that has the part, in the order of `uses`, and their weights.

    Their number is brought to a power of two by page 0, which adds nothing: calls of fewer widths are more alike.
    """
    found = []
    for part in PARTS:
        named = [(page, use.scale) for use in uses if part in use.parts for page in pages[use.sha256]]
        index = torch.zeros(1, MOST_PAGES, dtype=torch.int64)
        weight = torch.zeros(1, MOST_PAGES, dtype=dtype)
        for column, (page, scale) in enumerate(named):
            index[0, column], weight[0, column] = page, scale
        width = 1 << (len(named) - 1).bit_length() if named else 0
        found.append(Extra((index.to(device), weight.to(device)), width))
    return tuple(found)


NO_ROWS = Rows(())
