"""The LoRA files that one loaded model can use: found and looked at when it starts, read when they are asked for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch

from darkroom.tasks.adapters import LoraEntry, LoraOffer, OwnOffer
from darkroom.tasks.families import Family
from darkroom.worker.adapters.bank import Plan, pages_of
from darkroom.worker.adapters.fit import Change, fit, rank_of
from darkroom.worker.adapters.lora import Lora, Use, lay_out
from darkroom.worker.adapters.lora_file import lora_header
from darkroom.worker.adapters.names import ModelLayers
from darkroom.worker.adapters.weights import read_lora
from darkroom.worker.caches import Cache
from darkroom.worker.errors import AdapterDigestMismatch, AdapterError, AdapterMissing
from darkroom.worker.models.adaptable import Slot

ROOM = 1 << 30  # bytes on the host, for files that were read last; the newest stays in any case
_START = "put the file back that the job was made with, start the worker again, then `darkroom dead retry` the job"


@dataclass(frozen=True, slots=True)
class Known:
    """A LoRA that is here and fits: what is said of it, its file, and what it takes of the bank for which parts."""

    offer: LoraOffer
    path: Path
    pages: int
    parts: frozenset[str]


class Library:
    """By name and digest. Thread-safe."""

    def __init__(self, slots: Mapping[str, Sequence[Slot]], layers: ModelLayers, dtype: torch.dtype) -> None:
        self.plan = Plan(slots["unet"])
        self._texts = {name: {slot.path: slot for slot in found} for name, found in slots.items() if name != "unet"}
        self._layers, self._dtype = layers, dtype
        self._known: dict[str, Known] = {}
        self._own: dict[str, Known] = {}  # by digest
        self._read = Cache[Lora](most=1000, sizes=lambda lora: lora.bytes, room=ROOM)

    def add(self, entry: LoraEntry, path: Path, sha256: str, *, whole: bool = False) -> None:
        """From now on it can be asked for, by its file's digest. Raises an AdapterError for one that does not fit.

        That is what its header says; `whole`: what its numbers are, too.
        """
        if whole:
            read_lora(path, self._layers, sha256)
        changes = fit(lora_header(path), self._layers)
        said = {"name": entry.name, "scale": entry.scale, "description": entry.description, "license": entry.license}
        self._known[entry.name] = self._looked_at(LoraOffer(**said, sha256=sha256, **_told(changes)), path, changes)

    def add_own(self, name: str, path: Path, sha256: str, family: Family) -> OwnOffer:
        """One that belongs to a tenant: asked for by its digest (`use`), while its file lies there, and on no offer.

        Raises an AdapterError for one that does not fit; nothing in it names the path.
        """
        with _unplaced(path, "its file"):
            changes = fit(lora_header(path), self._layers)
        offer = OwnOffer(name=name, sha256=sha256, family=family, **_told(changes))
        self._own[sha256] = self._looked_at(offer, path, changes)
        return offer

    def forget(self, sha256: str) -> None:
        """One of a tenant's that nobody will ask for any more."""
        self._own.pop(sha256, None)
        self._read.forget(sha256)

    def _looked_at(self, offer: LoraOffer, path: Path, changes: Sequence[Change]) -> Known:
        rows = [change for change in changes if change.layer.part == "unet"]
        parts = frozenset(self.plan.slot(change.layer.path).part for change in rows)
        return Known(offer, path, pages_of(rank_of(rows)), parts)

    @property
    def parts(self) -> frozenset[str]:
        """Of the denoiser, that any of them changes."""
        return frozenset(part for known in self._known.values() for part in known.parts)

    @property
    def names(self) -> dict[str, str]:
        """By digest; those of tenants are told by its beginning alone."""
        tenants = {sha256: f"own {sha256[:8]}" for sha256 in list(self._own)}  # others come and go meanwhile
        return {**tenants, **{known.offer.sha256: name for name, known in self._known.items()}}

    @property
    def offers(self) -> list[LoraOffer]:
        """Of all that are here, by their names."""
        return [self._known[name].offer for name in sorted(self._known)]

    def use(self, name: str, scale: float, sha256: str | None = None, *, own: bool = False) -> Use:
        """The LoRA of this name, and of this digest where one is named; `own`: a tenant's. Raises AdapterMissing."""
        known = self._own.get(str(sha256)) if own else self._known.get(name)
        if known is None:
            raise AdapterMissing(f"LoRA {name} is not here", hint=_START)
        if sha256 not in (None, known.offer.sha256):
            raise AdapterMissing(
                f"LoRA {name} of SHA-256 {sha256} is not here; the file of this name has {known.offer.sha256}",
                hint=f"submit the job anew, or {_START}",
            )
        offer = known.offer
        return Use(name, offer.sha256, scale, offer.rank, known.pages, known.parts, offer.text)

    def load(self, use: Use) -> Lora:
        """On the host, read and checked; kept for those who ask next. Raises an AdapterError."""
        return self._read.get(use.sha256, lambda: self._loaded(use))

    def _loaded(self, use: Use) -> Lora:
        known = self._known.get(use.name)
        if known is None or known.offer.sha256 != use.sha256:
            known = self._own[use.sha256]
        with _unplaced(known.path, f"the file of the LoRA {use.name}", own=isinstance(known.offer, OwnOffer)):
            weights = read_lora(known.path, self._layers, use.sha256)
        lora = lay_out(weights, self.plan, self._texts, self._dtype)
        structlog.get_logger().info(
            "adapter.read", lora=use.name, sha256=use.sha256, rank=use.rank, bytes=known.path.stat().st_size
        )
        return lora


def _told(changes: Sequence[Change]) -> dict[str, Any]:
    """What an offer says of a file."""
    return {"rank": rank_of(changes), "text": any(change.layer.part != "unet" for change in changes)}


@contextmanager
def _unplaced(path: Path, words: str, *, own: bool = False) -> Iterator[None]:
    """A job is told of what is wrong, and its owner has no business with this machine's paths.

    What a tenant's file holds is the tenant's to mend; that it lies here as it was brought is this machine's.
    """
    try:
        yield
    except AdapterError as error:
        told = type(error)(error.message.replace(str(path), words), hint=error.hint)
        told.callers_fault = own and not isinstance(error, AdapterDigestMismatch | AdapterMissing)
        raise told from error
