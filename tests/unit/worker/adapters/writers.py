"""LoRAs with random numbers, in the files of those who train them, and what such a file must come to."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from darkroom.worker.adapters.weights import LoraWeights
from darkroom.worker.models.loading import LoadedModel
from tests.unit.worker.models.original import unet_key

#: By part and path, what is added to the weight (of the weight's shape, float64).
Deltas = dict[tuple[str, str], torch.Tensor]

LAYERS = (torch.nn.Linear, torch.nn.Conv2d)
KOHYA = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}


@dataclass(frozen=True)
class Trained:
    """The matrices of one layer, of the shapes that sd-scripts has; `alpha` None: not written."""

    part: str
    path: str
    down: torch.Tensor
    up: torch.Tensor
    alpha: float | None

    @property
    def delta(self) -> torch.Tensor:
        rank = self.down.shape[0]
        product = self.up.double().flatten(1) @ self.down.double().flatten(1)
        return product.reshape(self.up.shape[0], *self.down.shape[1:]) * ((self.alpha or rank) / rank)


def parts_of(model: LoadedModel) -> list[str]:
    return [part for part in ("unet", "text_encoder", "text_encoder_2") if part in model.components]


def train(
    model: LoadedModel,
    ranks: Iterable[int] = (4,),
    alphas: Iterable[float | None] = (None,),
    only: Callable[[str, str], bool] = lambda part, path: True,
    seed: int = 0,
) -> list[Trained]:
    """Ranks and alphas take turns over the layers."""
    generator = torch.Generator().manual_seed(seed)
    ranks, alphas, trained = list(ranks), list(alphas), []
    for part in parts_of(model):
        for path, layer in model.components[part].named_modules():
            if not isinstance(layer, LAYERS) or not only(part, path):
                continue
            rank, alpha = ranks[len(trained) % len(ranks)], alphas[len(trained) % len(alphas)]
            shape = layer.weight.shape
            down = torch.randn(rank, *shape[1:], generator=generator) / 4
            up = torch.randn(shape[0], rank, *([1] * (len(shape) - 2)), generator=generator) / 4
            trained.append(Trained(part, path, down, up, alpha))
    return trained


def deltas(trained: Iterable[Trained]) -> Deltas:
    return {(one.part, one.path): one.delta for one in trained}


def write_kohya(path: Path, model: LoadedModel, trained: Iterable[Trained], *, original: bool, **metadata: str) -> Path:
    """As sd-scripts writes it: of SDXL's UNet with the names of the original release, of others with diffusers'."""
    tensors = {}
    for one in trained:
        name = one.path
        if one.part == "unet" and original:
            name = unet_key(f"{name}.weight", model.components["unet"]).removesuffix(".weight")
        elif one.part != "unet" and name.startswith("encoder."):  # as transformers had it when that was trained
            name = f"text_model.{name}"
        prefix = "lora_te" if model.family.name == "sd" and one.part != "unet" else KOHYA[one.part]
        stem = f"{prefix}_{name.replace('.', '_')}"
        tensors |= {f"{stem}.lora_down.weight": one.down, f"{stem}.lora_up.weight": one.up}
        if one.alpha is not None:
            tensors[f"{stem}.alpha"] = torch.tensor(one.alpha)
    save_file(tensors, path, metadata)
    return path


def copied(model: LoadedModel) -> dict[str, Any]:
    """Its components in float64, for somebody to change."""
    return {
        name: copy.deepcopy(part).double() if isinstance(part, torch.nn.Module) else part
        for name, part in model.components.items()
    }


def add_random(module: Any, config: LoraConfig, seed: int = 0) -> None:
    """An adapter of peft whose numbers are random in both matrices."""
    module.add_adapter(config)
    fill(module, seed)


def fill(module: torch.nn.Module, seed: int = 0) -> None:
    """Random numbers into the adapter of a module."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if ".lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) / 4


def changed_by(change: Callable[[dict[str, Any]], None], model: LoadedModel) -> Deltas:
    """What a change of a copy's components makes of the weights, from those of each layer that became others."""
    components = copied(model)
    change(components)
    found: Deltas = {}
    for part in parts_of(model):
        before = dict(model.components[part].named_modules())
        for path, layer in components[part].named_modules():
            path = path.removesuffix(".base_layer")
            if isinstance(layer, LAYERS) and path in before and hasattr(before[path], "weight"):
                delta = layer.weight.detach() - before[path].weight.double()
                if delta.abs().max() > 0:
                    found[part, path] = delta
    return found


def fused_by_diffusers(path: Path, model: LoadedModel) -> Deltas:
    """What stock diffusers makes of a file."""

    def fuse(components: dict[str, Any]) -> None:
        pipe = model.family.pipeline("txt2img", components)
        pipe.load_lora_weights(path.parent, weight_name=path.name)
        pipe.fuse_lora(components=parts_of(model))

    return changed_by(fuse, model)


def products(weights: LoraWeights) -> Deltas:
    """What ours makes of it."""
    return {
        (part, path): (layer.up.double() @ layer.down.double().flatten(1))
        for part, layers in weights.parts.items()
        for path, layer in layers.items()
    }


def assert_same(one: Deltas, other: Deltas) -> None:
    """The same layers, and within 1e-6 the same changes; a product may lack the kernel's dimensions."""
    assert one.keys() == other.keys()
    assert one
    for key, delta in one.items():
        torch.testing.assert_close(delta.flatten(1), other[key].flatten(1), rtol=0, atol=1e-6)


def adapter_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in get_peft_model_state_dict(module).items()}
