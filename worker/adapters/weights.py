"""The matrices of a LoRA file, as changes of a model's layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from darkroom.tasks.adapters import MOST_RANK
from darkroom.worker.adapters.faults import Faults
from darkroom.worker.adapters.fit import Change, fit
from darkroom.worker.adapters.lora_file import LoraFile, open_lora
from darkroom.worker.adapters.names import ModelLayers
from darkroom.worker.adapters.passing import PassingFile
from darkroom.worker.adapters.scales import scale
from darkroom.worker.errors import AdapterCorrupt, AdapterIncompatible


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """What is added to a layer's weight: `up` @ `down`, both float32, with alpha / rank in `up` already.

    `down`: (rank, in) of a Linear or a convolution of one pixel, (rank, in, height, width) of another convolution.
    `up`: (out, rank).
    """

    down: torch.Tensor
    up: torch.Tensor

    @property
    def rank(self) -> int:
        """Of this layer."""
        return self.down.shape[0]


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """By part of the model ("unet", "text_encoder", "text_encoder_2") and path of the module in it.

    `rank`: the largest of all layers. `sha256`: of the file.
    """

    parts: Mapping[str, Mapping[str, LoraLayer]]
    rank: int
    sha256: str = ""


def read_lora(
    path: Path,
    components: Mapping[str, Any] | ModelLayers,
    sha256: str | None = None,
    max_rank: int = MOST_RANK,
) -> LoraWeights:
    """The file's matrices for these loaded modules, or for the layers of such; it is read and hashed in one go.

    Raises AdapterMissing, AdapterUnsafe, AdapterCorrupt, AdapterIncompatible where the file does not fit these modules,
    and AdapterDigestMismatch, before all of these but the first two, where it is not the file of this SHA-256.
    """
    layers = components if isinstance(components, ModelLayers) else ModelLayers(components)
    with open_lora(path, sha256) as (passing, file):
        parts = _parts(path, fit(file, layers, max_rank), _tensors(passing, file))
        digest = passing.digest()
    rank = max(layer.rank for part in parts.values() for layer in part.values())
    return LoraWeights(parts, rank, digest)


def _tensors(passing: PassingFile, file: LoraFile) -> dict[str, torch.Tensor]:
    return {info.name: passing.tensor(info) for info in file.weights.tensors}


def _parts(path: Path, changes: list[Change], tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, LoraLayer]]:
    parts: dict[str, dict[str, LoraLayer]] = {}
    broken, contradictions = Faults(), Faults()
    for change in changes:
        made = _matrices(change, tensors, contradictions)
        if not all(_is_finite(matrix) for matrix in (made.down, made.up)):
            broken.add("numbers that are none (NaN or infinity)", repr(change.change.name))
        parts.setdefault(change.layer.part, {})[change.layer.path] = made
    if broken:
        raise AdapterCorrupt(f"{path}: {'; '.join(broken.lines())}")
    if contradictions:
        raise AdapterIncompatible(f"{path}: {'; '.join(contradictions.lines())}", hint=_HINT)
    return parts


_HINT = "save the LoRA again with one alpha"


def _matrices(change: Change, tensors: dict[str, torch.Tensor], contradictions: Faults) -> LoraLayer:
    layer, file = change.layer, change.change
    assert file.down is not None
    assert file.up is not None
    down = tensors.pop(file.down.name).reshape(file.rank, layer.inputs, *layer.kernel)
    up = tensors.pop(file.up.name).reshape(layer.outputs, file.rank)
    config = change.config
    said = config.alpha_of(file.name, layer.path) if config else None
    alpha = float(tensors.pop(file.alpha.name)) if file.alpha is not None else said
    if None not in (said, alpha) and said != alpha:
        contradictions.add("another alpha than its metadata say", f"{file.name!r} ({alpha:g} and {said:g})")
    if alpha is not None:
        up = up.mul_(scale(alpha, file.rank, rslora=config is not None and config.rslora))
    return LoraLayer(down, up)


def _is_finite(matrix: torch.Tensor) -> bool:
    return all(bool(bound.isfinite()) for bound in torch.aminmax(matrix))
