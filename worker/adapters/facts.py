"""What a LoRA file says of itself, from its header alone and without a model."""

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from darkroom.worker.adapters.faults import base_of, few, of_no_model, own_faults, seems_for
from darkroom.worker.adapters.keys import Naming
from darkroom.worker.adapters.lora_file import FileLayer, LoraFile, lora_header
from darkroom.worker.adapters.scales import read_configs
from darkroom.worker.errors import AdapterIncompatible

_TAGS, _LONGEST = 10, 500  # tags that are told, and characters of a text


@dataclass(frozen=True)
class LoraFacts:
    """One file. `bytes` with the header, `ranks` and `layers` count layers: by rank, and by kind of layer.

    `alpha`: as the metadata say, for most layers; tensors may say otherwise. `base`: the model it was trained on, in
    the words of the metadata; `family`: what it seems to be made for. `tags`: the most frequent ones of its training's
    captions, with their numbers. `faults`: why it cannot be used with any model.
    """

    path: Path
    bytes: int
    naming: Naming | None
    parts: tuple[str, ...]
    ranks: dict[int, int]
    layers: dict[str, int]
    dtypes: dict[str, int]
    alpha: float | None
    base: str | None
    family: str | None
    name: str | None
    title: str | None
    trigger: str | None
    tags: dict[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """The largest."""
        return max(self.ranks, default=0)


def inspect_lora(path: Path) -> LoraFacts:
    """Reads the header. Raises an AdapterError for a file that cannot be read, or is no LoRA at all."""
    file = lora_header(path)
    faults = own_faults(file).lines()
    alpha = _number(file.metadata.get("ss_network_alpha"))
    try:
        alpha = next((config.alpha for config in read_configs(file).values()), alpha)
    except AdapterIncompatible as error:
        faults.append(error.message)
    if not faults and of_no_model(file):
        names = few([repr(layer.name) for layer in file.layers])
        faults.append(f"family unknown: no model here has layers of these names ({names})")
    return LoraFacts(
        path,
        file.weights.bytes,
        file.naming,
        tuple(sorted({layer.part or "unet" for layer in file.layers}, key=lambda part: (part != "unet", part))),
        dict(Counter(layer.rank for layer in file.layers).most_common()),
        dict(Counter(map(_kind, file.layers)).most_common()),
        file.weights.dtypes,
        alpha,
        _text(base_of(file)),
        seems_for(file),
        _text(file.metadata.get("ss_output_name")),
        _text(file.metadata.get("modelspec.title")),
        _text(file.metadata.get("modelspec.trigger_phrase")),
        _tags(file),
        tuple(faults),
    )


def _kind(layer: FileLayer) -> str:
    if layer.part in ("text_encoder", "text_encoder_2"):
        return "text"
    if "attn" in layer.name:
        return "attention"
    return "convolution" if layer.down is not None and len(layer.down.shape) > 2 else "linear"


def _text(text: str | None) -> str | None:
    return text[:_LONGEST] if text else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _tags(file: LoraFile) -> dict[str, int]:
    """The most frequent of all folders; sd-scripts writes numbers by tag by folder."""
    try:
        folders = json.loads(file.metadata.get("ss_tag_frequency") or "{}")
    except (ValueError, RecursionError):
        return {}
    counts: Counter[str] = Counter()
    for tags in folders.values() if isinstance(folders, dict) else ():
        for tag, number in tags.items() if isinstance(tags, dict) else ():
            if type(number) is int:
                counts[tag.strip()[:_LONGEST]] += number
    return dict(counts.most_common(_TAGS))
