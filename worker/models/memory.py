"""How the model is held in device memory; applied once, to the real modules that all jobs share."""

from typing import Any
from weakref import WeakValueDictionary

import torch
from accelerate import cpu_offload
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn

from darkroom.worker.models.device import Placement

#: Of all models of the process that take turns on a device, the module that is there.
_there: WeakValueDictionary[torch.device, nn.Module] = WeakValueDictionary()


def place(modules: dict[str, Any], placement: Placement) -> None:
    """Put the modules where `placement` says."""
    match placement.memory:
        case "model_offload":
            for module in modules.values():
                add_hook_to_module(module, _TakesTurns(placement.device))
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


def module_on(device: torch.device) -> nn.Module | None:
    """The one whose turn it is, where modules take turns."""
    return _there.get(device)


class _TakesTurns(ModelHook):  # type: ignore[misc]
    """Brings its module to the device when it is called, and sends back the one that is there, whichever it is.

    Accelerate's own hook sends back one given module, the one before in the order of txt2img. Where a kind leaves that
    order, or another model goes on, a denoiser would stay beside what comes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def init_hook(self, module: nn.Module) -> nn.Module:
        """Until its first turn it rests."""
        return module.to("cpu")

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Also called before a VAE's `encode` and `decode`, by diffusers."""
        if (before := _there.get(self._device)) is not module:
            if before is not None:
                del _there[self._device]
                before.to("cpu")
                torch.cuda.empty_cache()  # it lay on the stream of its own calls, where others find no room
            try:
                module.to(self._device)
            except BaseException:
                module.to("cpu")  # a half of it would be taken for the whole
                raise
            _there[self._device] = module
        return args, kwargs


def _offload_layers(module: nn.Module, placement: Placement) -> None:
    cpu_offload(module, placement.device, offload_buffers=len(module._parameters) > 0)
