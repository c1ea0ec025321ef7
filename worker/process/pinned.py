"""The models that a process pins: each set of weights once, whatever models are made of it, with the LoRAs for them."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import structlog

from darkroom.tasks.adapters import LoraOffer, StyleEntry
from darkroom.tasks.catalogue import Contents, ModelEntry
from darkroom.tasks.families import kinds_of
from darkroom.worker.adapters.adapters import Adapters
from darkroom.worker.adapters.bank import MOST_PAGES
from darkroom.worker.adapters.style import load_style
from darkroom.worker.adapters.style_found import find_style, pin_style
from darkroom.worker.adapters.style_places import pin_of_style, style_files
from darkroom.worker.adapters.styles import Styles
from darkroom.worker.batching.engine import Engine
from darkroom.worker.errors import AdapterError, ModelError, ModelIncompatible, ModelUnknown
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.derived import derived
from darkroom.worker.models.device import Placement
from darkroom.worker.models.digests import Progress
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.process.stock import Stock, is_for, misfit, own_names
from darkroom.worker.settings import WorkerSettings


def named_entries(models: Sequence[str], contents: Contents) -> list[ModelEntry]:
    """Those that are named, each once. Raises ModelUnknown."""
    if not models:
        raise ModelUnknown("no model is named", hint="give the names of the models to serve")
    known = contents.models
    if unknown := [name for name in models if name not in known]:
        raise ModelUnknown(f"not in the catalogue: {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    return [known[name] for name in dict.fromkeys(models)]


class Pinned:
    """Loads what is named, and what is made of it as far as its LoRAs are here.

    `telling`: who hears of a model how far its verification is. `loras`: the names of those that are wanted, all of
    which have to be usable; None: whatever is.
    """

    def __init__(
        self,
        contents: Contents,
        placement: Placement,
        settings: WorkerSettings,
        engine: Engine,
        telling: Callable[[str], AbstractContextManager[Progress | None]] = lambda _: nullcontext(),
        loras: Collection[str] | None = None,
    ) -> None:
        self._contents, self._placement, self._settings, self._engine = contents, placement, settings, engine
        self._telling, self._stock = telling, Stock(contents, settings, loras)
        self._pages = max(MOST_PAGES, settings.lora_pages) if settings.lora_pages else 0  # one image's find room
        self._refused: dict[str, AdapterError] = {}
        self._log = structlog.get_logger()

    def named(self, entries: Sequence[ModelEntry]) -> dict[str, Generator]:
        """These alone, by name. Raises what `generators` raises."""
        names = [entry.name for entry in entries]
        return {name: one for name, one in self.generators(entries).items() if name in names}

    def generators(self, named: Sequence[ModelEntry]) -> dict[str, Generator]:
        """By name, those that were named first. Raises a ModelError, an AdapterError for a LoRA of theirs."""
        groups: dict[str, list[ModelEntry]] = {}
        for entry in named:
            groups.setdefault(entry.weights, []).append(entry)
        found = [one for weights, entries in groups.items() for one in self._of_weights(weights, entries)]
        order = {entry.name: place for place, entry in enumerate(named)}
        found.sort(key=lambda generator: order.get(generator.entry.name, len(order)))
        return {generator.entry.name: generator for generator in found}

    def _of_weights(self, weights: str, named: Sequence[ModelEntry]) -> Iterator[Generator]:
        base = self._loaded(self._contents.models[weights])
        styles = self._styles(base)
        adapters = Adapters.of(base, self._engine, self._pages, styles) if base.slots else None
        if adapters:
            self._stock.fill(adapters.library, base.entry)
            self._log.info("adapters.ready", model=weights, loras=len(adapters.library.offers), style=bool(styles),
                           pages=adapters.stats().size, page_bytes=adapters.page_bytes)  # fmt: skip
        for entry in [*named, *self._made_of(weights, named, adapters)]:
            self._check_kinds(entry, styles)
            model = base if entry.name == weights else derived(base, entry)
            if adapters:
                self._stock.check_own(entry, adapters.library)
                model = replace(model, entry=_offering(model.entry, adapters.library.offers, self._contents))
            yield Generator(model, self._engine, adapters)

    def _loaded(self, entry: ModelEntry) -> LoadedModel:
        """Loaded and verified."""
        began = time.monotonic()
        with self._telling(entry.name) as told:
            model = load_model(entry, self._placement, self._settings, told)
        self._log.info("model.loaded", model=entry.name, device=str(model.placement.device),
                       dtype=str(model.placement.dtype), memory=model.placement.memory,
                       seconds=round(time.monotonic() - began, 2),
                       predicts=model.components["scheduler"].config.prediction_type)  # fmt: skip
        return model

    def _styles(self, base: LoadedModel) -> Styles | None:
        """The style adapter of this model that is here: of several the operator's own, which comes last."""
        entry = base.entry
        if not base.slots or base.placement.memory == "attention_slicing" or "stylize" not in entry.kinds:
            return None
        for style in reversed(self._contents.styles.values()):
            if not is_for(style, entry, self._contents):
                continue
            if style_files(style, self._settings, pin_of_style(style, self._settings)) is None:
                self._log.debug("adapter.not_here", style=style.name)
                continue
            try:
                return self._style(style, base)
            except AdapterError as error:
                self._refused[style.name] = error
                self._log.warning("adapter.not_offered", style=style.name, code=error.code, error=error.message)
        return None

    def _style(self, style: StyleEntry, base: LoadedModel) -> Styles:
        found = find_style(style, self._settings)
        unet, family = base.components["unet"], base.entry.family
        adapter = load_style(found.files.adapter, found.files.encoder, family, unet, base.placement)
        pin_style(style, found, self._settings)
        self._log.info("adapter.style", style=style.name, model=base.entry.name, revision=found.revision)
        return Styles(style.name, found.digests, found.revision, adapter, self._engine)

    def _check_kinds(self, entry: ModelEntry, styles: Styles | None) -> None:
        """Raises ModelIncompatible where the entry chooses the kind that needs a style adapter; all are no choice."""
        if styles or "stylize" not in entry.kinds or set(entry.kinds) == kinds_of(entry.family):
            return
        fits = [one for one in self._contents.styles.values() if not misfit(one, entry)]
        why = "; ".join(str(self._refused.get(one.name, f"{one.name} is not here")) for one in fits)
        raise ModelIncompatible(
            f"model {entry.name}: its entry names the kind stylize, and no style adapter can be used with it: "
            f"{why or 'the catalogue has none for it'}",
            hint="`darkroom styles list` shows them; stylize does not go with the speedup fuse or attention_slicing",
        )

    def _made_of(self, weights: str, named: Iterable[ModelEntry], adapters: Adapters | None) -> Iterator[ModelEntry]:
        """Models of these weights that nobody named, and that can be served all the same."""
        names = {entry.name for entry in named}
        here = {offer.name for offer in adapters.library.offers} if adapters else set()
        for entry in self._contents.models.values():
            unnamed = weights in names and entry.base == weights and entry.name not in names
            if unnamed and own_names([entry]) <= here and self._can_be_served(entry, adapters):
                yield entry

    def _can_be_served(self, entry: ModelEntry, adapters: Adapters | None) -> bool:
        """One that nobody named keeps no other from being served: where it cannot be, the log tells of it."""
        try:
            if adapters:
                self._stock.check_own(entry, adapters.library)
        except (AdapterError, ModelError) as error:
            self._log.warning("model.not_served", model=entry.name, code=error.code, error=error.message)
            return False
        return True


def _offering(entry: ModelEntry, here: Iterable[LoraOffer], contents: Contents) -> ModelEntry:
    """The entry with those of the LoRAs that it may have."""
    fitting = [offer for offer in here if not misfit(contents.loras[offer.name], entry)]
    return entry.model_copy(update={"loras": fitting})
