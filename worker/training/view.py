"""A module of its own over weights that others use at the same time.

What a training changes about a module are its layers, its mode and attributes such as that of gradient checkpointing.
A view has its own of all these; of the weights it has its own parameters over the same memory.
"""

import copy
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn
from torch.utils.checkpoint import checkpoint

from darkroom.worker.models.adaptable import plain


def view_of(module: Any, dtype: torch.dtype | None = None) -> Any:
    """A view in training mode whose weights are frozen, with plain layers, plain attention and no dropout.

    In another `dtype` than the module's the weights are a copy. To be made while nothing else calls the module.
    """
    memo: dict[int, Any] = {id(one): _frozen(one, dtype) for one in module.parameters()}
    memo |= {id(one): one for one in module.buffers()}
    memo |= {id(one): AttnProcessor2_0() for one in getattr(module, "attn_processors", {}).values()}
    made = copy.deepcopy(module, memo)
    plain(made)
    made._forward_pre_hooks.clear()  # that of compiled blocks sets what holds for the whole process
    made._forward_pre_hooks_with_kwargs.clear()
    return _without_dropout(made.train())


def checkpoint_gradients(view: nn.Module) -> None:
    """Has the view compute activations again in the backward pass, instead of keeping them.

    By the attributes that diffusers' and transformers' own methods set, whose names change with the versions.
    """
    for module in view.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.__dict__ |= {"gradient_checkpointing": True, "_gradient_checkpointing_func": _again}


def _again(called: Any, *given: Any, **named: Any) -> Any:
    # Nothing in the forward pass is drawn, and other threads may be drawing from the generator that would be set back.
    return checkpoint(called, *given, use_reentrant=False, preserve_rng_state=False, **named)


def _frozen(parameter: nn.Parameter, dtype: torch.dtype | None) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(dtype or parameter.dtype), requires_grad=False)


def _without_dropout(view: nn.Module) -> nn.Module:
    """What is dropped would be drawn from the global generator, which no resumed training could have again."""
    for module in view.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module.__dict__.get("dropout"), float):  # of the attention in transformers
            module.__dict__["dropout"] = 0.0
    return view
