"""The LoRAs of a process's models: those that are here and fit are told to each library, and pinned."""

from collections.abc import Collection, Iterable

import structlog

from darkroom.tasks.adapters import AdapterEntry, LoraEntry, ranks_over
from darkroom.tasks.catalogue import Contents, ModelEntry
from darkroom.worker.adapters.library import Library
from darkroom.worker.adapters.places import find_lora, path_of_lora, pin_found, pin_of_lora
from darkroom.worker.errors import AdapterError, ModelIncompatible
from darkroom.worker.settings import WorkerSettings


class Stock:
    """`only`: the names of those that are wanted, all of which have to be usable; None: whatever is."""

    def __init__(self, contents: Contents, settings: WorkerSettings, only: Collection[str] | None = None) -> None:
        self._contents, self._settings, self._only = contents, settings, only
        self._refused: dict[tuple[str, str], AdapterError] = {}  # by the weights' name and the LoRA's
        self._log = structlog.get_logger()

    def fill(self, library: Library, base: ModelEntry) -> None:
        """Tells the library of all LoRAs for the model that are here; of those that cannot be used the log tells.

        Raises an AdapterError for one that is wanted.
        """
        for lora in self._contents.loras.values():
            if not is_for(lora, base, self._contents) or (self._only is not None and lora.name not in self._only):
                continue
            try:
                self._add(lora, library)
            except AdapterError as error:
                if self._only is not None:
                    raise
                self._refused[base.name, lora.name] = error
                self._tell(lora, error)

    def check_own(self, entry: ModelEntry, library: Library) -> None:
        """Reads the LoRAs that the model always has.

        Raises the AdapterError of one that cannot be used, ModelIncompatible where they are of too high a rank.
        """
        ranks = []
        for own in entry.own_loras:
            try:
                if refused := self._refused.get((entry.weights, own.name)):
                    raise refused
                use = library.use(own.name, own.scale)
                library.load(use)
                ranks.append((own.name, use.rank))
            except AdapterError as error:
                raise _of_model(entry, own.name, error) from error
        if why := ranks_over(ranks, entry.name, entry.limits.max_lora_rank):
            raise ModelIncompatible(
                f"model {entry.name}: its `own_loras` are too much: {why}",
                hint="leave one of them out of the catalogue entry, or use LoRAs of lower ranks",
            )

    def _add(self, lora: LoraEntry, library: Library) -> None:
        """One that is new is read as a whole before it is pinned: what cannot be used would be refused once mended."""
        located = find_lora(lora, self._settings, unread=True)
        library.add(lora, located.path, located.sha256, whole=located.unpinned is not None)
        pin_found(lora, located, self._settings)

    def _tell(self, lora: LoraEntry, error: AdapterError) -> None:
        if path_of_lora(lora, self._settings, pin_of_lora(lora, self._settings)) is None:
            self._log.debug("adapter.not_here", lora=lora.name)
        else:
            self._log.warning("adapter.not_offered", lora=lora.name, code=error.code, error=error.message)


def is_for(adapter: AdapterEntry, base: ModelEntry, contents: Contents) -> bool:
    """Whether it is for this model, or one that is made of it."""
    made = (entry for entry in contents.models.values() if entry.weights == base.name)
    return any(not misfit(adapter, entry) for entry in made)


def misfit(adapter: AdapterEntry, entry: ModelEntry) -> str:
    """Why it cannot be on in pictures of the model; empty where it can."""
    return adapter.misfit(entry.name, entry.family, entry.base)


def own_names(entries: Iterable[ModelEntry]) -> set[str]:
    """Of the LoRAs that these models always have."""
    return {own.name for entry in entries for own in entry.own_loras}


def _of_model(entry: ModelEntry, lora: str, error: AdapterError) -> AdapterError:
    """Told to the operator, who is to know the file: what jobs are told leaves its path out."""
    said = error.__cause__ if isinstance(error.__cause__, AdapterError) else error
    named = "" if f"LoRA {lora}" in said.message else f"LoRA {lora}: "
    return type(error)(f"model {entry.name}: {named}{said.message}", hint=said.hint)
