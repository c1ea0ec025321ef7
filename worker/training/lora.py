"""A new LoRA in the views of a model, by peft."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from darkroom.worker.training.options import TrainingOptions

_NAME = "default"  # peft's name of the adapter

_BLOCKS = r"(?:down_blocks|mid_block|up_blocks)\..*\."
_ATTENTION = r"to_q|to_k|to_v|to_out\.0"
_OTHERS = r"proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|conv1|conv2|conv_shortcut|time_emb_proj"
_TEXT = r".*\.(?:q_proj|k_proj|v_proj|out_proj"

#: Of a denoiser and of a text encoder, by `targets`.
_UNET = {"attention": rf"{_BLOCKS}(?:{_ATTENTION})", "all": rf"{_BLOCKS}(?:{_ATTENTION}|{_OTHERS})"}
_ENCODER = {"attention": rf"{_TEXT})", "all": rf"{_TEXT}|fc1|fc2)"}


class Matrices(NamedTuple):
    """Of one layer, as in files of sd-scripts: `down` (rank, in) or (rank, in, height, width) of a convolution, `up`
    (out, rank) or (out, rank, 1, 1).
    """

    part: str
    path: str
    down: nn.Parameter
    up: nn.Parameter

    def named(self) -> dict[str, nn.Parameter]:
        """Both, under names that are theirs alone."""
        return {f"{self.part}.{self.path}.down": self.down, f"{self.part}.{self.path}.up": self.up}


def add_lora(views: Mapping[str, Any], options: TrainingOptions) -> list[Matrices]:
    """Puts it into the views, by part of the model; `down` is drawn from the seed alone, `up` is 0.

    Always float32, on the device of the view's weights. The global generator is neither read nor changed.
    """
    generator = torch.Generator().manual_seed(options.seed)
    return [matrices for part, view in views.items() for matrices in _added(part, view, options, generator)]


def _added(part: str, view: Any, options: TrainingOptions, generator: torch.Generator) -> list[Matrices]:
    targets = (_UNET if part == "unet" else _ENCODER)[options.targets]
    config = LoraConfig(r=options.rank, lora_alpha=options.scale, target_modules=targets)  # type: ignore[arg-type]
    inject_adapter_in_model(config, view, low_cpu_mem_usage=True)  # on no device: nothing is drawn
    layers = [(path, layer) for path, layer in view.named_modules() if isinstance(layer, LoraLayer)]
    return [Matrices(part, path, *_drawn(layer, generator)) for path, layer in layers]


def _drawn(layer: Any, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter]:
    """In place of peft's empty ones, with its own distribution."""
    down, up, device = layer.lora_A[_NAME], layer.lora_B[_NAME], layer.get_base_layer().weight.device
    drawn = nn.init.kaiming_uniform_(torch.empty(down.weight.shape), a=5**0.5, generator=generator)
    down.weight = nn.Parameter(drawn.to(device))
    up.weight = nn.Parameter(torch.zeros(up.weight.shape, device=device))
    return down.weight, up.weight
