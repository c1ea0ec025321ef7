"""By how much a LoRA's product is multiplied, where the file's metadata say so.

Diffusers writes peft's `LoraConfig` into the header (`lora_adapter_metadata`); without it, and without tensors named
alpha, alpha is the rank.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.worker.adapters.keys import PEFT
from darkroom.worker.adapters.lora_file import FileLayer, LoraFile
from darkroom.worker.adapters.names import PARTS
from darkroom.worker.errors import AdapterIncompatible

_METADATA = "lora_adapter_metadata"
_BESIDE = "adapter_config.json"  # where peft keeps alpha, apart from the weights
_LONGEST = 10_000_000  # bytes of it

# Options of peft that change what a layer gives, beyond the two matrices.
_OTHERWISE = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "kasa_config",
    "arrow_config",
    "alora_invocation_tokens",
    "layer_replication",
)
# Ways to begin a training that leave the model's own weights as they are; the others (PiSSA, OLoRA, CorDA, LoftQ)
# train against changed ones.
_BEGINNINGS = ("gaussian", "orthogonal", "eva")

_PLAIN = re.compile(r"\^?([\w.-]|\\[.-]){1,500}\$?")


@dataclass(frozen=True)
class Patterns:
    """Numbers by names of layers, whole or their ends: of peft's regular expressions those that are plain names.

    The first that fits holds (peft, `get_pattern_key`).
    """

    whole: Mapping[str, tuple[int, float]]
    ends: Mapping[str, tuple[int, float]]

    def find(self, name: str) -> float | None:
        """The number of the first pattern that fits a name."""
        found = [table[part] for table, part in self._tried(name) if part in table]
        return min(found)[1] if found else None

    def _tried(self, name: str) -> Iterator[tuple[Mapping[str, tuple[int, float]], str]]:
        yield self.whole, name
        yield self.ends, name
        place = name.find(".")
        while place >= 0:
            yield self.ends, name[place + 1 :]
            place = name.find(".", place + 1)


@dataclass(frozen=True)
class Config:
    """What the metadata say of one part of the model."""

    rank: float
    alpha: float
    ranks: Patterns
    alphas: Patterns
    rslora: bool

    def alpha_of(self, *names: str) -> float:
        """Of a layer with these names."""
        return next((found for name in names if (found := self.alphas.find(name)) is not None), self.alpha)

    def rank_of(self, *names: str) -> float:
        """Of a layer with these names."""
        return next((found for name in names if (found := self.ranks.find(name)) is not None), self.rank)


def scale(alpha: float, rank: int, *, rslora: bool = False) -> float:
    """What the product is multiplied with (Hu et al. 2021; rank-stabilised: Kalajdzievski 2023)."""
    return alpha / (math.sqrt(rank) if rslora else rank)


def read_configs(file: LoraFile) -> dict[str | None, Config]:
    """By part of the model; None: for layers whose part the file does not name. Raises AdapterIncompatible."""
    _check_beside(file)
    text = file.metadata.get(_METADATA)
    if not text:
        return {}
    try:
        tables = _by_part(json.loads(text))
        return {part: _config(table) for part, table in tables.items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise AdapterIncompatible(f"{file.path}: in its metadata `{_METADATA}`: {error}", hint=_HINT) from None


_HINT = "save the LoRA again with diffusers' `save_lora_weights`"


def config_of(configs: Mapping[str | None, Config], layer: FileLayer) -> Config | None:
    """The one that a layer is under."""
    return configs.get(layer.part, configs.get(None) if layer.part == "unet" else None)


def _by_part(table: Any) -> dict[str | None, dict[str, Any]]:
    if not isinstance(table, dict):
        raise TypeError("it is no table")
    tables: dict[str | None, dict[str, Any]] = {}
    for key, value in table.items():
        part, _, rest = key.partition(".")
        place = (part, rest) if part in PARTS and rest else (None, key)
        tables.setdefault(place[0], {})[place[1]] = value
    return {part: found for part, found in tables.items() if "r" in found or "lora_alpha" in found}


def _config(table: Mapping[str, Any]) -> Config:
    for option in _OTHERWISE:
        if table.get(option):
            raise ValueError(f"`{option}` is not run")
    begun = table.get("init_lora_weights", True)
    if isinstance(begun, str) and begun not in _BEGINNINGS:
        raise ValueError(f"`init_lora_weights` is {begun[:50]!r}, which may change the model's own weights")
    return Config(
        _number(table, "r"),
        _number(table, "lora_alpha"),
        _patterns(table, "rank_pattern"),
        _patterns(table, "alpha_pattern"),
        bool(table.get("use_rslora")),
    )


def _patterns(table: Mapping[str, Any], field: str) -> Patterns:
    whole: dict[str, tuple[int, float]] = {}
    ends: dict[str, tuple[int, float]] = {}
    patterns = table.get(field) or {}
    if not isinstance(patterns, dict):
        raise TypeError(f"`{field}` is no table")
    for order, (pattern, value) in enumerate(patterns.items()):
        if not _PLAIN.fullmatch(pattern):
            raise ValueError(f"`{field}` has {pattern[:50]!r}, a pattern that is no name of a layer")
        number = _number({field: value}, field)
        name = pattern.removeprefix("^").removesuffix("$").replace("\\", "")
        (whole if pattern.startswith("^") else ends).setdefault(name, (order, number))
    return Patterns(whole, ends)


def _number(table: Mapping[str, Any], field: str) -> float:
    value = table.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"`{field}` is {str(value)[:50]}, no number")
    return float(value)


def _check_beside(file: LoraFile) -> None:
    """Peft keeps alpha in a file beside the weights, which no digest of these covers. Raises AdapterIncompatible."""
    beside = file.path.parent / _BESIDE
    own = any(layer.alpha for layer in file.layers) or file.metadata.get(_METADATA)
    theirs = any(tensor.name.startswith(PEFT) for tensor in file.weights.tensors)
    if own or not theirs or not beside.is_file():
        return
    try:
        if beside.stat().st_size > _LONGEST:
            raise ValueError("too long")
        config = _config(json.loads(beside.read_bytes()))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise AdapterIncompatible(f"{beside}: {error}", hint=_HINT) from None
    for layer in file.layers:
        if layer.rank and scale(config.alpha_of(layer.name), layer.rank, rslora=config.rslora) != 1:
            raise AdapterIncompatible(
                f"{file.path}: its alpha stands in {_BESIDE} beside it, which its digest does not cover", hint=_HINT
            )
