"""The adapters of one loaded model: what is in its bank, and what an image's calls are given of it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import torch

from darkroom.tasks.adapters import OwnOffer
from darkroom.tasks.families import Family
from darkroom.worker.adapters.bank import MOST_PAGES, RANK, Bank, Plan
from darkroom.worker.adapters.denoiser import AdaptedDenoiser
from darkroom.worker.adapters.keeper import BankStats, Keeper
from darkroom.worker.adapters.library import Library
from darkroom.worker.adapters.lora import Lora, Use, text_deltas
from darkroom.worker.adapters.names import ModelLayers
from darkroom.worker.adapters.rows import Rows, lora_extras
from darkroom.worker.adapters.styles import Styles
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.extras import Extra
from darkroom.worker.batching.stacking import Call
from darkroom.worker.models.adaptable import Delta, Slot, adding
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import LoadedModel

PAGES = 128  # at most; each of SDXL's takes 43 MB in bfloat16
SHARE = 0.1  # of a GPU's memory, or of the host's, for the bank
DRAWN = 0.02  # of standard deviation, the matrices of a trial


class Adapters:
    """Shared by all entries that are made of one set of weights. Thread-safe.

    `slots`: the layers that can add, by component (`darkroom.worker.models.adaptable`).
    """

    def __init__(
        self,
        denoiser: Any,
        slots: Mapping[str, Sequence[Slot]],
        placement: Placement,
        engine: Engine,
        library: Library,
        pages: int = 0,
        styles: Styles | None = None,
    ) -> None:
        """`pages` of the bank; 0: as many as suit the device. `styles`: of the adapter in this denoiser."""
        self._engine, self._placement, self.library, self.styles = engine, placement, library, styles
        self._texts = {name: list(found) for name, found in slots.items() if name != "unet"}
        plan = library.plan
        pages = pages or bank_pages(plan, placement)
        self._bank = Bank(plan, pages, placement.dtype, placement.device)
        self._keeper = Keeper(pages, self._write)
        self.denoiser = AdaptedDenoiser(denoiser, self._bank, styles.holder if styles else None)
        self._nothing = self._made((), {})

    @classmethod
    def of(cls, model: LoadedModel, engine: Engine, pages: int = 0, styles: Styles | None = None) -> Self:
        """Those of a loaded model; there are none before the library is told of them."""
        layers = ModelLayers({name: model.components[name] for name in model.slots})
        library = Library(model.slots, layers, model.placement.dtype)
        return cls(model.components["unet"], model.slots, model.placement, engine, library, pages, styles)

    @contextmanager
    def held(self, uses: Mapping[str, Sequence[Use]], check: Callable[[], None]) -> Iterator[dict[str, Rows]]:
        """In the context all of these LoRAs are in the bank; what calls bring that have those of each name.

        Waits for room where others hold it; `check` is asked meanwhile, and may raise. Raises an AdapterError.
        """
        every = {use.sha256: use for some in uses.values() for use in some}
        for use in every.values():  # what is not there is read before room is made for it
            if use.pages and not self._keeper.has(use.sha256):
                self.library.load(use)
        wanted = {use.sha256: use.pages for use in every.values() if use.pages}
        with self._keeper.held(wanted, lambda sha256: self.library.load(every[sha256]), check) as pages:
            yield {name: Rows(self._extras(some, pages)) for name, some in uses.items()}

    @contextmanager
    def passing(self, name: str, path: Path, sha256: str, family: Family) -> Iterator[OwnOffer]:
        """In the context images can have the LoRA of this file, as one of a tenant's own; nothing is left of it then.

        The digest has to be nobody else's. Raises an AdapterError for a file that does not fit.
        """
        try:
            yield self.library.add_own(name, path, sha256, family)
        finally:
            self.library.forget(sha256)
            self._keeper.forget(sha256)

    @contextmanager
    def speaking(self, uses: Sequence[Use]) -> Iterator[None]:
        """In the context the text encoders add these LoRAs. For the thread that runs model calls."""
        found = [
            delta
            for name in self._texts
            for delta in _summed(
                [text_deltas(self.library.load(use), name, use.scale, self._placement.device) for use in uses]
            )
        ]
        with adding(found):
            yield

    @contextmanager
    def on_trial(self, call: Call) -> Iterator[Call]:
        """A denoiser call without adapters, with some drawn by lot in the context: for trials before the first job.

        Of what images may bring here it has all; where there is nothing to ask for it is the call as it was.
        """
        parts = self.library.parts
        if not parts and self.styles is None:
            yield call
            return
        drawn = torch.Generator().manual_seed(0)
        sheets = {
            part: {
                width: DRAWN * torch.randn(count, 1, RANK, width, generator=drawn)
                for width, count in self.library.plan.counts[part].items()
            }
            for part in sorted(parts)
        }
        uses = [Use("", "", 1.0, RANK, 1, parts, text=False)] if parts else []
        wanted = {use.sha256: use.pages for use in uses}
        with self._keeper.held(wanted, lambda _: Lora(sheets, {}), lambda: None) as pages:
            extras = self._made(uses, pages)
            if self.styles:
                extras = (*extras[:-1], self.styles.drawn())
            yield Call.of(call.module, *call.tree, Rows(extras)(call.rows))

    @property
    def page_bytes(self) -> int:
        """Of one page of the bank, with all that a LoRA may change."""
        return self.library.plan.page_bytes(self._placement.dtype)

    def stats(self) -> BankStats:
        """Of the bank."""
        found = self._keeper.stats()
        return replace(found, bytes=self._bank.bytes, names=self.library.names)

    def _extras(self, uses: Sequence[Use], pages: Mapping[str, tuple[int, ...]]) -> tuple[Extra, ...]:
        """What most images bring, which have none, is made once."""
        if not uses:
            return self._nothing
        return self._made(uses, pages)

    def _made(self, uses: Sequence[Use], pages: Mapping[str, tuple[int, ...]]) -> tuple[Extra, ...]:
        """Of an image without a style."""
        found = lora_extras(uses, pages, self._placement.dtype, self._placement.device)
        return (*found, self.styles.plain) if self.styles else found

    def _write(self, lora: Lora, pages: Sequence[int]) -> None:
        self._engine.call(self._written, lora, pages)

    def _written(self, lora: Lora, pages: Sequence[int]) -> None:
        """On the denoiser's stream, so that it comes after the calls that are under way and before all later ones."""
        with self._engine.streams.denoiser():
            self._bank.write(lora.sheets, pages)


def bank_pages(plan: Plan, placement: Placement) -> int:
    """How many pages the bank has: those of one image's LoRAs at least."""
    if placement.device.type == "cuda":
        memory = torch.cuda.get_device_properties(placement.device).total_memory
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(MOST_PAGES, min(PAGES, int(SHARE * memory) // max(1, plan.page_bytes(placement.dtype))))


def _summed(deltas: Sequence[Sequence[tuple[Slot, Delta]]]) -> Iterator[tuple[Slot, Delta]]:
    """What several LoRAs add to the layers of one text encoder, as one delta a layer."""
    found: dict[str, list[tuple[Slot, Delta]]] = {}
    for slot, delta in chain.from_iterable(deltas):
        found.setdefault(slot.path, []).append((slot, delta))
    for of_layer in found.values():
        yield of_layer[0][0], Delta(*(torch.cat(parts, dim=1) for parts in zip(*(d for _, d in of_layer), strict=True)))
