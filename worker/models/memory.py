"""How the model is held in device memory; applied once, to the real modules that all jobs share."""

from typing import Any

from accelerate import cpu_offload, cpu_offload_with_hook
from torch import nn

from darkroom.worker.models.device import Placement


def place(modules: dict[str, Any], placement: Placement) -> None:
    """Put the modules, named in the order of their use, where `placement` says."""
    match placement.memory:
        case "model_offload":
            _offload_models(list(modules.values()), placement)
            return
        case "sequential_offload":
            for module in modules.values():
                _offload_layers(module, placement)
            return
        case "vae_tiling":
            modules["vae"].enable_tiling()
            modules["vae"].enable_slicing()
        case "attention_slicing":
            modules["unet"].set_attention_slice("auto")
        case "full":
            pass
    for module in modules.values():
        module.to(placement.device)


def _offload_models(modules: list[nn.Module], placement: Placement) -> None:
    """Each comes to the device when called and sends the one before it back; the first sends the last."""
    hook = None
    hooks = []
    for module in modules:
        _, hook = cpu_offload_with_hook(module, placement.device, prev_module_hook=hook)
        hooks.append(hook)
    hooks[0].hook.prev_module_hook = hooks[-1]


def _offload_layers(module: nn.Module, placement: Placement) -> None:
    cpu_offload(module, placement.device, offload_buffers=len(module._parameters) > 0)
