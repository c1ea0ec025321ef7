"""What an image brings to each of its denoiser calls besides the call's own arguments: pages of LoRAs, a style."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from darkroom.worker.adapters.bank import MOST_PAGES
from darkroom.worker.adapters.lora import Use
from darkroom.worker.batching.extras import Extra
from darkroom.worker.models.adaptable import PARTS

Pages = Mapping[str, tuple[int, ...]]


@dataclass(slots=True)
class Rows:
    """For one image; `single` holds extras of one row, which all rows of the image are copies of.

    `negative`: those of a row that guidance leads away from, where they are others; such rows come first, as pipelines
    of diffusers have them.
    """

    single: tuple[Extra, ...]
    negative: tuple[Extra, ...] = ()
    _by_count: dict[int, tuple[Extra, ...]] = field(default_factory=dict)

    def __call__(self, rows: int) -> tuple[Extra, ...]:
        """For a call of so many rows."""
        if rows not in self._by_count:
            half = rows // 2 if self.negative else 0
            self._by_count[rows] = tuple(
                _after(first, half, one, rows - half) if half and first is not one else _spread(one, rows)
                for first, one in zip(self.negative or self.single, self.single, strict=True)
            )
        return self._by_count[rows]


def _spread(extra: Extra, rows: int) -> Extra:
    return extra.changed(lambda one: one.expand(rows, *one.shape[1:]))


def _after(first: Extra, before: int, extra: Extra, rows: int) -> Extra:
    """So many rows of the one after so many of the other."""
    parts = _spread(first, before).tensors, _spread(extra, rows).tensors
    return replace(extra, tensors=tuple(map(torch.cat, zip(*parts, strict=True))))


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
