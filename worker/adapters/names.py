"""A model's layers, under every name that files of LoRAs give them.

Files name a layer as diffusers and transformers do, or by the names of the original releases (CompVis' `ldm`,
Stability's `sgm`), in both cases with dots or with underscores. The table is made from the names of the model's own
modules, so that no name is taken apart and nothing is guessed.
"""

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

#: The parts of a model that a LoRA may change, in the order in which a name without its part is looked for.
PARTS = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class Layer:
    """A Linear or a convolution; `shape` is its weight's: (out, in) or (out, in, height, width)."""

    part: str
    path: str
    shape: tuple[int, ...]

    @property
    def inputs(self) -> int:
        """Channels that come in."""
        return self.shape[1]

    @property
    def outputs(self) -> int:
        """Channels that go out."""
        return self.shape[0]

    @property
    def kernel(self) -> tuple[int, ...]:
        """Height and width; () of a Linear and of a convolution of one pixel, which do the same."""
        return self.shape[2:] if math.prod(self.shape[2:]) > 1 else ()


class ModelLayers:
    """The layers of loaded modules; made once, it serves any number of files."""

    def __init__(self, components: Mapping[str, Any]) -> None:
        self.parts = {part: _layers(part, components[part]) for part in PARTS if part in components}
        self._named = {part: _by_name(part, layers) for part, layers in self.parts.items()}

    def find(self, part: str | None, name: str) -> Layer | None:
        """The layer of this name in a file; without a part, if it is in the UNet or in one text encoder alone."""
        if part is not None:
            return self._named.get(part, {}).get(name)
        found = [table[name] for table in self._named.values() if name in table]
        return found[0] if found and (len(found) == 1 or found[0].part == "unet") else None


def _layers(part: str, module: torch.nn.Module) -> dict[str, Layer]:
    return {
        path: Layer(part, path, tuple(layer.weight.shape))
        for path, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    }


def _by_name(part: str, layers: Mapping[str, Layer]) -> dict[str, Layer]:
    originals = original_names(layers) if part == "unet" else {}
    table: dict[str, Layer] = {}
    for path, layer in layers.items():
        names = {path, *_older(path), *([originals[path]] if path in originals else [])}
        for name in names:
            table[name] = table[name.replace(".", "_")] = layer
    return table


# Transformers 5 has no `text_model` in an encoder without projection; files and other versions do.
_TEXT_MODEL = "text_model."
_OLD_PROJECTIONS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def _older(path: str) -> Iterator[str]:
    """Names of the same layer in files of before (diffusers, `state_dict_utils`: `DIFFUSERS_OLD_TO_PEFT`)."""
    if path.endswith(".to_out.0"):
        yield path.removesuffix(".0")
    if "encoder.layers." not in path:
        return
    other = path.removeprefix(_TEXT_MODEL) if path.startswith(_TEXT_MODEL) else _TEXT_MODEL + path
    yield other
    stem, _, last = path.rpartition(".")
    if last in _OLD_PROJECTIONS:
        yield f"{stem}.{_OLD_PROJECTIONS[last]}"
        yield f"{other.rpartition('.')[0]}.{_OLD_PROJECTIONS[last]}"


_TOP = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_out": "out.2",
}
_RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_INNER = re.compile(
    r"(?P<block>(?:down|up)_blocks\.\d+|mid_block)\.(?P<kind>resnets|attentions)\.(?P<index>\d+)\.(?P<rest>.+)"
)
_SAMPLER = re.compile(r"(?P<block>(?:down|up)_blocks\.\d+)\.(?:down|up)samplers\.0\.conv")


def original_names(layers: Collection[str]) -> dict[str, str]:
    """A UNet's paths, and the names of the same layers in the original releases."""
    stems = _stems(layers)
    names = {path: name for path, name in _TOP.items() if path in layers}
    for path in layers:
        if found := _INNER.fullmatch(path):
            rest = found["rest"] if found["kind"] == "attentions" else _RESNET.get(found["rest"])
            if rest:
                names[path] = f"{stems[path.removesuffix('.' + found['rest'])]}.{rest}"
        elif path in stems:
            names[path] = stems[path]
    return names


@dataclass
class _Block:
    resnets: int = 0
    attends: bool = False
    sampler: str = ""


def _stems(layers: Collection[str]) -> dict[str, str]:
    """The beginnings of names, in diffusers and in the originals, which count the blocks of each side through.

    There is a number for each ResNet, with the attention behind it, and on the way down one for each change of size
    (CompVis, `ldm/modules/diffusionmodules/openaimodel.py`); the first input block is `conv_in`.
    """
    stems: dict[str, str] = {}
    blocks = _blocks(layers)
    number = 1
    for name, block in _side(blocks, "down_blocks."):
        for index in range(block.resnets):
            stems[f"{name}.resnets.{index}"] = f"input_blocks.{number}.0"
            stems[f"{name}.attentions.{index}"] = f"input_blocks.{number}.1"
            number += 1
        if block.sampler:
            stems[block.sampler] = f"input_blocks.{number}.0.op"
            number += 1
    number = 0
    for name, block in _side(blocks, "up_blocks."):
        for index in range(block.resnets):
            stems[f"{name}.resnets.{index}"] = f"output_blocks.{number}.0"
            stems[f"{name}.attentions.{index}"] = f"output_blocks.{number}.1"
            number += 1
        if block.sampler:
            stems[block.sampler] = f"output_blocks.{number - 1}.{2 if block.attends else 1}.conv"
    for name, block in _side(blocks, "mid_block"):
        for index in range(block.resnets):
            stems[f"{name}.resnets.{index}"] = f"middle_block.{2 * index}"
            stems[f"{name}.attentions.{index}"] = f"middle_block.{2 * index + 1}"
    return stems


def _blocks(layers: Collection[str]) -> dict[str, _Block]:
    blocks: dict[str, _Block] = defaultdict(_Block)
    for path in layers:
        if found := _INNER.fullmatch(path):
            block = blocks[found["block"]]
            if found["kind"] == "attentions":
                block.attends = True
            else:
                block.resnets = max(block.resnets, int(found["index"]) + 1)
        elif found := _SAMPLER.fullmatch(path):
            blocks[found["block"]].sampler = path
    return blocks


def _side(blocks: Mapping[str, _Block], start: str) -> list[tuple[str, _Block]]:
    """The blocks of one side in their order, of which each has its number."""
    return sorted(
        ((name, block) for name, block in blocks.items() if name.startswith(start)),
        key=lambda one: int(one[0].rpartition(".")[2]) if "." in one[0] else 0,
    )
