"""Which workers are up, by what they said of themselves within the last seconds (`worker/process/presence.py`)."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from darkroom.cli.screen import size
from darkroom.tasks.errors import QueueBroken
from darkroom.tasks.redis_io import Key, Operation, command


@dataclass(frozen=True, slots=True)
class Bank:
    """What a worker has of LoRAs in the memory of its device: their names, on `used` of `pages`, in `bytes`."""

    loras: list[str]
    used: int
    pages: int
    bytes: int

    def __str__(self) -> str:
        names = f" ({', '.join(self.loras)})" if self.loras else ""
        return f"{len(self.loras)} LoRAs{names} on {self.used} of {self.pages} pages, {size(self.bytes)}"


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process; `name` is host:pid:random."""

    name: str
    host: str
    models: list[str]
    device: str
    version: str
    waits_for: str = ""  # why it takes no jobs now
    has: dict[str, list[str]] = field(default_factory=dict)  # by model, beyond the first release
    banks: dict[str, Bank] = field(default_factory=dict)  # of LoRAs, by model

    @property
    def serves(self) -> str:
        """Its models, each with what it has for it."""
        has = {model: ", ".join(self.has.get(model, [])) for model in self.models}
        return ", ".join(f"{model} ({words})" if words else model for model, words in has.items())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def workers_up() -> Operation[list[Worker]]:
    """Every worker whose word holds, by name."""
    models = yield command("HKEYS", Key("models"))
    names: set[bytes] = set()
    for model in models:
        for kind in ("serving", "serving_derived"):
            serving = yield command("ZRANGE", Key(f"{kind}:{model.decode(errors='replace')}"), 0, -1, alone=True)
            names.update(() if isinstance(serving, QueueBroken) else serving)
    found = []
    for name in sorted(member.decode(errors="replace") for member in names):
        word = yield command("GET", Key(f"worker:{name}"), alone=True)
        if isinstance(word, bytes):  # it runs out by itself when its worker dies
            found.append(_worker(name, word))
    return found


def _worker(name: str, word: bytes) -> Worker:
    """What another version of Darkroom says may lack something."""
    try:
        said = json.loads(word)
        models = [str(model) for model in said.get("models", [])]
    except (ValueError, AttributeError, TypeError, RecursionError):
        said, models = {}, []
    device, version, waits_for = (str(said.get(field, "")) for field in ("device", "version", "waits_for"))
    return Worker(name, name.split(":")[0], models, device, version, waits_for, _has(said, models), _banks(said))


def _banks(said: Any) -> dict[str, Bank]:
    """Earlier versions say nothing of them."""
    try:
        return {
            str(model): Bank([*map(str, of["loras"])], *(int(of[name]) for name in ("used", "pages", "bytes")))
            for model, of in said.get("banks", {}).items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _has(said: Any, models: list[str]) -> dict[str, list[str]]:
    found = {}
    for model in models:
        try:
            found[model] = [str(ability) for ability in json.loads(said["serves"][model])["has"]]
        except (KeyError, TypeError, ValueError, RecursionError):  # of the first release
            found[model] = []
    return found
