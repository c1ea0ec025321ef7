"""Which models can be asked for now: the built-in catalogue, and over it what workers say they serve."""

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from darkroom.tasks.catalogue import Catalogue, ModelOffer, builtin_catalogue
from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.needs import value_need
from darkroom.tasks.offers import agreed_loras, joint, read, released
from darkroom.tasks.redis_io import Operation, script
from darkroom.tasks.requests import KINDS

FRESH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Market:
    """The models on offer, how many workers serve each now, and what each of these has (`darkroom.tasks.needs`).

    Workers that have the same are there once.
    """

    offers: Catalogue
    workers: dict[str, int]
    read_at: float = field(default_factory=time.monotonic)
    abilities: Mapping[str, Sequence[Collection[str]]] = field(default_factory=dict)

    @property
    def fresh(self) -> bool:
        """True while it need not be read again."""
        return time.monotonic() - self.read_at < FRESH_SECONDS

    def stale_for(self, error: InvalidRequest) -> bool:
        """Whether the refusal may be this reading's fault: a model came up since. Twice a second at most."""
        about_the_model = any(fault.field.partition(".")[0] in ("model", "kind", "loras") for fault in error.faults)
        return about_the_model and time.monotonic() - self.read_at > 0.5

    def sole_model(self) -> str | None:
        """The model that a request means when it names none: the only one that is served.

        One with a base is not counted: it is another quality, and meant by its name alone.
        """
        served = [name for name in self._served() if not (name in self.offers and self.offers[name].base)]
        return served[0] if len(served) == 1 else None

    def meant(self) -> str:
        """The model that a request means when it names none. Raises InvalidRequest where that is not one."""
        if sole := self.sole_model():
            return sole
        served = sorted(self._served())
        known = ", ".join(served or sorted(self.offers))
        why = "no model is served now: name one to wait for, of"
        if served:
            several = len(served) > 1
            why = "several models are served: name one of" if several else "what is served is meant by its name alone:"
        raise InvalidRequest([Fault("model", "missing", f"{why} {known}")])

    def _served(self) -> list[str]:
        return [name for name, workers in self.workers.items() if workers]

    def can(self, model: str, needs: Iterable[str] = ()) -> bool:
        """Whether one worker that is there now has all of this for the model."""
        wanted = set(needs)
        able = any(wanted <= set(one) for one in self.abilities.get(model, ()))
        return bool(self.workers.get(model)) and (able or not wanted)

    def has(self, model: str) -> list[str]:
        """All that workers there now have for the model, though not each of them."""
        return sorted({ability for one in self.abilities.get(model, ()) for ability in one})


def read_market() -> Operation[Market]:
    """Reads what workers have published; entries that this version cannot read are left out."""
    reply = yield script("models")
    offers: dict[str, ModelOffer] = dict(builtin_catalogue())
    workers, abilities = {}, {}
    for raw, last, whole, count, said in zip(*(reply[part::5] for part in range(5)), strict=True):
        words = [_Word.decode(word) for word in sorted(said)]
        try:
            name, offer = raw.decode(), _offer(last, whole, words)
        except ValueError:
            continue
        offers[name], workers[name], abilities[name] = offer, int(count), [word.has for word in words]
    return Market(offers, workers, abilities=abilities)


@dataclass(frozen=True, slots=True)
class _Word:
    """What a worker says of a model; one of the first release says nothing, and has nothing but that release."""

    offer: ModelOffer | None
    has: frozenset[str]

    @classmethod
    def decode(cls, text: bytes) -> "_Word":
        try:
            said: Any = json.loads(text)
            return cls(read(json.dumps(said["offer"])), frozenset(map(str, said["has"])))
        except (ValueError, TypeError, KeyError, RecursionError):
            return cls(None, frozenset())


def _offer(last: bytes, whole: bytes, words: Sequence[_Word]) -> ModelOffer:
    """`last` and `whole`: what was published last as the first release reads it, and in full. Raises ValueError."""
    said = [word.offer for word in words if word.offer]
    if said:
        silent = [] if len(said) == len(words) else [read(last)]
        loras = agreed_loras([word.offer for word in words if word.offer and "loras" in word.has])
        return joint([*said, *silent]).model_copy(update={"loras": loras})
    found = read(whole) if whole else None
    return found if found and read(released(found)) == read(last) else _open(read(last))


def _open(offer: ModelOffer) -> ModelOffer:
    """The offer of a first release's worker does not say what a later one could do: let such jobs wait for it."""
    later = [kind for kind in KINDS if value_need("kind", kind)]
    return offer.model_copy(update={"kinds": [*offer.kinds, *later]})
