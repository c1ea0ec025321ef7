"""Which models can be asked for now: the built-in catalogue, and over it what workers say they serve."""

import time
from dataclasses import dataclass, field

from darkroom.tasks.catalogue import Catalogue, ModelOffer, builtin_catalogue
from darkroom.tasks.errors import InvalidRequest
from darkroom.tasks.redis_io import Operation, script

FRESH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Market:
    """The models on offer, and how many workers serve each now."""

    offers: Catalogue
    workers: dict[str, int]
    read_at: float = field(default_factory=time.monotonic)

    @property
    def fresh(self) -> bool:
        """True while it need not be read again."""
        return time.monotonic() - self.read_at < FRESH_SECONDS

    def stale_for(self, error: InvalidRequest) -> bool:
        """Whether the refusal may be this reading's fault: a model came up since. Twice a second at most."""
        about_the_model = any(fault.field == "model" for fault in error.faults)
        return about_the_model and time.monotonic() - self.read_at > 0.5

    def sole_model(self) -> str | None:
        """The model that a request means when it names none: the only one that is served."""
        served = [name for name, workers in self.workers.items() if workers]
        return served[0] if len(served) == 1 else None


def read_market() -> Operation[Market]:
    """Reads what workers have published; entries that this version cannot read are left out."""
    reply = yield script("models")
    offers: dict[str, ModelOffer] = dict(builtin_catalogue())
    workers = {}
    for name, offer, count in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
        try:
            offers[name.decode()] = ModelOffer.model_validate_json(offer)
        except ValueError:
            continue
        workers[name.decode()] = int(count)
    return Market(offers, workers)
