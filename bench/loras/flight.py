"""Pictures in flight in this process, of the model that comes with Darkroom."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.tasks.validate import resolve
from darkroom.worker.adapters.adapters import Adapters
from darkroom.worker.adapters.styles import Styles
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.warm import warm
from darkroom.worker.kinds.base import PreparedJob, Sources
from darkroom.worker.models.device import Placement, choose_placement
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.models.tuning import make_engine
from darkroom.worker.settings import WorkerSettings

IN_FLIGHT = 16
ENTRY = builtin_catalogue()["starter"]

Job = tuple[Generator, PreparedJob, Sources]


@contextmanager
def starter() -> Iterator[tuple[Engine, Callable[[], LoadedModel]]]:
    """An engine on the CPU, and what loads the model anew."""
    settings = WorkerSettings(device="cpu")
    placement: Placement = choose_placement(settings)
    with make_engine(placement) as engine:
        yield engine, lambda: load_model(ENTRY, placement, settings)


def with_loras(
    model: LoadedModel, engine: Engine, add: Callable[[Adapters], object], styles: Styles | None = None
) -> Generator:
    """A warm generator whose requests may name what `add` makes known, and ask for styles if it has any."""
    adapters = Adapters.of(model, engine, styles=styles)
    add(adapters)
    offering = model.entry.model_copy(update={"loras": adapters.library.offers})
    generator = Generator(replace(model, entry=offering), engine, adapters)
    warm(generator)
    return generator


def without_adapters(model: LoadedModel, engine: Engine, other: LoadedModel) -> Generator:
    """A warm generator of torch's own layers, as they were before any could add something.

    Its weights are those of the `other` model: where in memory they happen to lie makes a hundredth.
    """
    for name in model.slots:
        model.components[name].load_state_dict(other.components[name].state_dict(), assign=True)
    for slots in model.slots.values():
        for slot in slots:
            kind = torch.nn.Linear if isinstance(slot.layer, torch.nn.Linear) else torch.nn.Conv2d
            slot.layer.__class__ = kind
            del slot.layer.__dict__["delta"]
    generator = Generator(replace(model, slots={}), engine)
    assert generator.adapters is None
    warm(generator)
    return generator


def job(generator: Generator, files: Mapping[str, bytes] = MappingProxyType({}), /, **fields: Any) -> Job:
    """A picture by the model's own defaults; `files` of its inputs, by their places in the request."""
    asked = {"prompt": "a large red star on a blue background", "model": generator.entry.name, **fields}
    request = resolve(asked, {generator.entry.name: generator.entry}, lambda: None).filled
    prepared = generator.prepare(request)
    return generator, prepared, prepared.kind.read(prepared, files)


def picture(one: Job, seed: int = 1, calls: str = "") -> tuple[Any, str]:
    """The picture, and where its calls were; `calls`: where they are to be."""
    generator, prepared, sources = one
    ticket = Ticket(script=Script(calls)) if calls else Ticket()
    made = generator.generate(prepared, seed, sources, _ignore, ticket)
    return made.picture, str(ticket.placements)


def flight(jobs: Sequence[Job]) -> float:
    """Seconds of all of these at a time."""
    began = time.perf_counter()
    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        list(threads.map(picture, jobs, range(len(jobs))))
    return time.perf_counter() - began


def in_turn(ways: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Seconds of each way by rounds; none is always the first, since the machine is not always as free."""
    found: list[list[float]] = [[] for _ in ways]
    for number in range(rounds):
        places = range(len(ways))
        for place in places if number % 2 else reversed(places):
            found[place].append(ways[place]())
    return found


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """The median over rounds."""
    return statistics.median(one / other for one, other in zip(these, those, strict=True))


def _ignore(*_: object) -> None:
    """Steps are told to nobody."""
