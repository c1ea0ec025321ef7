"""Whether a LoRA file fits a model, from names and shapes alone: no tensor is read."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from darkroom.tasks.adapters import MOST_RANK
from darkroom.worker.adapters.faults import Faults, own_faults, seems_for
from darkroom.worker.adapters.lora_file import FileLayer, LoraFile
from darkroom.worker.adapters.names import Layer, ModelLayers
from darkroom.worker.adapters.scales import Config, config_of, read_configs
from darkroom.worker.errors import AdapterIncompatible


@dataclass(frozen=True, slots=True)
class Change:
    """What a file does to a layer: `config` is what its metadata say, if they do."""

    layer: Layer
    change: FileLayer
    config: Config | None


def rank_of(changes: Iterable[Change]) -> int:
    """The largest of all layers; 0 where there are none."""
    return max((change.change.rank for change in changes), default=0)


def fit(file: LoraFile, layers: ModelLayers, max_rank: int = MOST_RANK) -> list[Change]:
    """A change for each layer that the file names, each of another layer. Raises AdapterIncompatible."""
    faults = own_faults(file, max_rank)
    configs = read_configs(file)
    changes: dict[Layer, Change] = {}
    unknown, misshapen = [], []
    for change in file.layers:
        layer = layers.find(change.part, change.name)
        if layer is None:
            unknown.append(_full_name(change))
            continue
        if layer in changes:
            faults.add("a layer under two names", f"{change.name!r} and {changes[layer].change.name!r}")
        found = changes[layer] = Change(layer, change, config_of(configs, change))
        misshapen.extend(_wrong_shapes(found))
        _check_scale(found, faults)
    faults.add(_elsewhere("layers that this model does not have", file, unknown), *unknown)
    faults.add(_elsewhere("shapes of another model", file, misshapen), *misshapen)
    if faults:
        raise AdapterIncompatible(f"{file.path}: {'; '.join(faults.lines())}")
    return list(changes.values())


def _full_name(change: FileLayer) -> str:
    return repr(change.name) + (f" of the {change.part}" if change.part and change.part != "unet" else "")


def _elsewhere(what: str, file: LoraFile, which: list[str]) -> str:
    family = seems_for(file) if which else None
    return f"{what} (it seems to be made for {family})" if family else what


def _wrong_shapes(found: Change) -> list[str]:
    """The layer, if its matrices are not of its inputs, outputs and rank."""
    down, up = found.change.down, found.change.up
    if down is None or up is None:
        return []
    layer, rank = found.layer, found.change.rank
    fits = _is(down.shape, (rank, layer.inputs), layer.kernel) and _is(up.shape, (layer.outputs, rank), ()) and rank > 0
    if fits:
        return []
    taken = f"{_times(down.shape)} down and {_times(up.shape)} up; the model's is {_times(layer.shape)}"
    return [f"{found.change.name!r} ({taken})"]


def _is(shape: tuple[int, ...], matrix: tuple[int, int], kernel: tuple[int, ...]) -> bool:
    """Whether it is of this matrix and kernel; the file may write one pixel or not."""
    return shape[:2] == matrix and (shape[2:] == kernel if kernel else math.prod(shape[2:]) == 1)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _check_scale(found: Change, faults: Faults) -> None:
    """Metadata that say another rank than the matrices leave open which of the two alpha belongs to."""
    config, change = found.config, found.change
    if config is None or not change.rank:
        return
    said = config.rank_of(change.name, found.layer.path)
    if said != change.rank:
        faults.add("another rank than its metadata say", f"{change.name!r} ({change.rank} and {said:g})")
