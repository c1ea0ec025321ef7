"""The bank: A and B of all LoRAs that rows of a call may name, in pages of rank 8, in memory that never moves.

A LoRA of rank 20 lies on three pages, several LoRAs of one image are more pages in their order, and page 0 is all zero:
a row that names it gets what the plain layer gives. One copy a width brings the pages of all rows side by side for all
layers of that width; the layers then run two batched products beside their own (`darkroom.worker.models.adaptable`).
Nothing here depends on which pages there are: a recorded CUDA graph reads what is in the bank when it is started.

After Punica (L. Chen et al., arXiv:2310.18547) and S-LoRA (Y. Sheng et al., arXiv:2311.03285), for diffusion's calls:
here the rows of a call are few and long, which is what batched products are good at.
"""

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from darkroom.tasks.adapters import MOST_RANK, RANK_STEP
from darkroom.worker.models.adaptable import PARTS, Delta, Slot

RANK = RANK_STEP  # of a page
MOST_PAGES = MOST_RANK // RANK  # of the LoRAs of one image together

#: A part's matrices of one LoRA on the host, as the bank has them: by width, (matrices, pages, RANK, width).
Sheets = Mapping[int, torch.Tensor]

#: What rows ask of a part: pages (rows, m), and the weight of each (rows, m).
Asked = tuple[torch.Tensor, torch.Tensor]


def pages_of(rank: int) -> int:
    """How many pages a LoRA takes whose widest layer has this rank."""
    return -(-rank // RANK)


class _Where(NamedTuple):
    """Where a slot's two matrices are: the width, and the number among the matrices of that width."""

    down: tuple[int, int]
    up: tuple[int, int]


class Plan:
    """How the matrices of some slots are laid out; `counts` by part and width."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = {part: [slot for slot in slots if slot.part == part] for part in PARTS}
        self.counts: dict[str, dict[int, int]] = {part: {} for part in PARTS}
        self._where: dict[str, _Where] = {}
        self._slots = {slot.path: slot for slot in slots}
        for slot in slots:
            self._where[slot.path] = _Where(self._next(slot.part, slot.wide_in), self._next(slot.part, slot.wide_out))

    def where(self, path: str) -> _Where:
        """Of the slot's matrices."""
        return self._where[path]

    def slot(self, path: str) -> Slot:
        """The one of this path."""
        return self._slots[path]

    def page_bytes(self, dtype: torch.dtype) -> int:
        """Of one page, all parts together."""
        widths = (width * count for counts in self.counts.values() for width, count in counts.items())
        return RANK * sum(widths) * dtype.itemsize

    def _next(self, part: str, width: int) -> tuple[int, int]:
        number = self.counts[part].get(width, 0)
        self.counts[part][width] = number + 1
        return width, number


class Bank:
    """The pages of one denoiser, on its device; all of it is for the thread that runs model calls.

    The tables of a part are made when its first LoRA comes: an empty bank takes no memory. On a host they take it as
    LoRAs come.
    """

    def __init__(self, plan: Plan, pages: int, dtype: torch.dtype, device: torch.device) -> None:
        """`pages`: how many besides page 0."""
        self._plan, self._pages, self._dtype, self._device = plan, pages, dtype, device
        self._tables: dict[str, dict[int, torch.Tensor]] = {}
        self._gathered: dict[tuple[str, int], torch.Tensor] = {}
        self._last: dict[str, tuple[Asked, list[tuple[Slot, Delta]]]] = {}

    @property
    def bytes(self) -> int:
        """That the tables take."""
        return sum(table.nbytes for tables in self._tables.values() for table in tables.values())

    def write(self, sheets: Mapping[str, Sheets], pages: Sequence[int]) -> None:
        """Puts a LoRA's matrices, by part, on these pages; those of parts that it has not become zero."""
        at = torch.tensor(pages, device=self._device)
        self._last.clear()
        for part in PARTS:
            if part not in sheets and part not in self._tables:
                continue
            for width, table in self._tables_of(part).items():
                if part in sheets:
                    table.index_copy_(1, at, sheets[part][width].to(self._device, self._dtype))
                else:
                    table.index_fill_(1, at, 0)

    def deltas(self, asked: Sequence[Asked | None]) -> Iterator[tuple[Slot, Delta]]:
        """What each layer adds in a call whose rows ask so, by `PARTS`; None: nothing of the part."""
        for part, rows in zip(PARTS, asked, strict=False):
            if rows is not None:
                yield from self._of_part(part, *rows) if rows[0].is_cuda else self._kept(part, rows)

    def _kept(self, part: str, rows: Asked) -> list[tuple[Slot, Delta]]:
        """Most calls of images that go side by side ask what the one before did, which a host sees at once."""
        last = self._last.get(part)
        if last is None or not all(map(torch.equal, last[0], rows)):
            last = self._last[part] = rows, list(self._of_part(part, *rows))
        return last[1]

    def _of_part(self, part: str, index: torch.Tensor, weight: torch.Tensor) -> Iterator[tuple[Slot, Delta]]:
        rows, pages = index.shape
        flat, each = index.flatten(), weight.repeat_interleave(RANK, dim=1)
        found = {
            width: self._gather(part, width, table, flat).view(-1, rows, pages * RANK, width).unbind(0)
            for width, table in self._tables_of(part).items()
        }
        for slot in self._plan.slots[part]:
            down, up = self._plan.where(slot.path)
            yield slot, Delta(found[down[0]][down[1]], each, found[up[0]][up[1]])

    def _gather(self, part: str, width: int, table: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        if table.is_cuda:  # memory of the call's own: a recording keeps it, and the allocator gives it at no cost
            return table.index_select(1, flat)
        shape = (table.shape[0], len(flat), RANK, width)
        kept = self._gathered.get((part, width))
        if kept is None or kept.shape != shape:  # on a host fresh memory has to be mapped page by page
            kept = self._gathered[part, width] = torch.empty(shape, dtype=table.dtype)
        return torch.index_select(table, 1, flat, out=kept)

    def _tables_of(self, part: str) -> dict[int, torch.Tensor]:
        if part not in self._tables:
            with torch.inference_mode(mode=False):
                self._tables[part] = {
                    width: _zeros((count, self._pages + 1, RANK, width), self._dtype, self._device)
                    for width, count in self._plan.counts[part].items()
                }
        return self._tables[part]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """On a host memory is taken as it is written to: torch would write to all of it, numpy asks for large pages."""
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or not size:
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.frombuffer(mmap.mmap(-1, size), dtype=dtype).view(shape)
