"""An IP-Adapter's safetensors file, read with every check: what it holds must fit the denoiser that is loaded.

Names are those of the public files: `image_proj.*`, and `ip_adapter.N.to_k_ip.weight` and `to_v_ip` with N = 1, 3, 5…,
one for each cross-attention layer in the order of diffusers' `attn_processors`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from darkroom.worker.adapters.attention import Layers, cross_attention
from darkroom.worker.adapters.door import adapter_door
from darkroom.worker.adapters.projection import HINT, OTHER_FAMILY, form_of, make_projection
from darkroom.worker.errors import AdapterCorrupt, AdapterIncompatible, AdapterMissing, AdapterUnsafe
from darkroom.worker.models.door import one_door
from darkroom.worker.models.naming import PICKLES
from darkroom.worker.models.opening import trouble
from darkroom.worker.models.weights import WeightsFile, check_kinds, inspect_weights

_PROJECTION, _LAYERS = "image_proj.", "ip_adapter."
_KEY, _VALUE = "to_k_ip.weight", "to_v_ip.weight"
_FAMILIES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL"}
#: Entry of the file's metadata that says which layers are the style's and which the layout's, as JSON.
_BLOCKS = "darkroom"

#: Beginnings of names of layers, and the share of the scale that they get.
Shares = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Which layers carry the style and which the layout."""

    style: Shares
    layout: Shares


@dataclass(frozen=True, slots=True)
class StyleFile:
    """What a file holds. `layers`: weights of keys and values, (width, cross-attention width), in the denoiser's order.

    `projection` is diffusers' module; `blocks` are the file's own, if it names any.
    """

    layers: Layers
    projection: Any
    blocks: Blocks | None = None


def read_style(path: Path, unet: Any) -> StyleFile:
    """The file, for this denoiser, in the dtypes that it has.

    Raises AdapterMissing, AdapterUnsafe, AdapterCorrupt, or AdapterIncompatible naming the layer that does not fit.
    """
    file = inspect_style(path)
    check_layers(file, unet)
    with adapter_door(HINT), one_door(path.name, path):
        tensors = load_file(path)
    for name, tensor in tensors.items():
        if tensor.numel() and not all(bound.isfinite() for bound in torch.aminmax(tensor.float())):
            raise AdapterCorrupt(f"{path}: {name} holds numbers that are none (NaN or infinity)")
    layers = [(tensors[key], tensors[value]) for key, value in _pairs(len(cross_attention(unet)))]
    inner = {name.removeprefix(_PROJECTION): tensor for name, tensor in tensors.items() if name.startswith(_PROJECTION)}
    return StyleFile(layers, make_projection(path, inner, unet.config.cross_attention_dim), _blocks(file))


def inspect_style(path: Path) -> WeightsFile:
    """Its header, checked as far as that goes without a model: an IP-Adapter in one of the two forms for styles.

    Raises as `read_style` does.
    """
    if path.suffix in PICKLES:
        raise AdapterUnsafe(f"{path}: {path.suffix} files can run code when loaded", hint="use the .safetensors file")
    if why := trouble(path):
        raise AdapterMissing(f"{path} {why}", hint="correct the path of the style in your catalogue file")
    with adapter_door(HINT):
        file = inspect_weights(path)
        check_kinds(file)
    if not _all_of(file, _LAYERS) or not _all_of(file, _PROJECTION):
        raise AdapterIncompatible(f"{path}: no IP-Adapter: it lacks image_proj or ip_adapter tensors", hint=HINT)
    form_of(path, {name.removeprefix(_PROJECTION): shape for name, shape in _all_of(file, _PROJECTION).items()})
    if any("lora" in name for name in file.names):
        raise AdapterIncompatible(f"{path}: an IP-Adapter for faces (FaceID), which brings LoRAs of its own", hint=HINT)
    return file


def check_layers(file: WeightsFile, unet: Any) -> None:
    """Raises AdapterIncompatible for layers that are not those of this denoiser."""
    found, cross = _all_of(file, _LAYERS), cross_attention(unet)
    for (key, value), (name, layer) in zip(_pairs(len(cross)), cross.items(), strict=True):
        for one in (key, value):
            shape, wanted = found.get(one), (layer.inner_dim, layer.cross_attention_dim)
            if shape != wanted:
                raise AdapterIncompatible(
                    f"{file.path}: {one} is {list(shape) if shape else 'not there'}; the model's "
                    f"{name.removesuffix('.processor')} needs {list(wanted)}{_made_for(found)}",
                    hint=OTHER_FAMILY,
                )
    more = sorted(found.keys() - {name for pair in _pairs(len(cross)) for name in pair})
    if more:
        raise AdapterIncompatible(
            f"{file.path}: {more[0]} belongs to none of the model's {len(cross)} layers{_made_for(found)}",
            hint=OTHER_FAMILY,
        )


def _pairs(layers: int) -> list[tuple[str, str]]:
    """Names of the keys' and values' weights of each layer."""
    return [(f"{_LAYERS}{2 * number + 1}.{_KEY}", f"{_LAYERS}{2 * number + 1}.{_VALUE}") for number in range(layers)]


def _made_for(found: Mapping[str, tuple[int, ...]]) -> str:
    widths = {shape[1] for shape in found.values() if len(shape) == 2}
    known = [name for width, name in _FAMILIES.items() if widths == {width}]
    return f" (it is made for {known[0]})" if known else ""


def _all_of(file: WeightsFile, prefix: str) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in file.tensors if tensor.name.startswith(prefix)}


def _blocks(file: WeightsFile) -> Blocks | None:
    said = file.metadata.get(_BLOCKS)
    if said is None:
        return None
    try:
        table = json.loads(said)
        return Blocks(_shares(table["style"]), _shares(table["layout"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise AdapterIncompatible(
            f"{file.path}: its metadata `{_BLOCKS}` is not two tables `style` and `layout` of layers and numbers",
            hint=HINT,
        ) from None


def _shares(table: dict[str, Any]) -> Shares:
    shares = {name: float(share) for name, share in table.items()}
    if not all(math.isfinite(share) for share in shares.values()):
        raise ValueError("not finite")
    return shares
