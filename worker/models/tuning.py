"""What makes the denoiser faster on a GPU, as the settings ask; some change last bits, so a manifest records them.

`python -m bench speedups` tells what each gives.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.policy import Policy
from darkroom.worker.batching.spare import SHARE
from darkroom.worker.models.device import Placement
from darkroom.worker.settings import Size

#: Of one block's code: widths times buckets times sizes. Past it a call fails instead of running eagerly.
MOST_COMPILED = 2048

#: Blocks that diffusers' own `compile_repeated_blocks` leaves out: their norms and activations cost as much to move.
RESIDUAL = ("ResnetBlock2D",)

LATENT = 8  # pixels of a picture's side to one of its latents'


def make_engine(placement: Placement, policy: Policy | None = None, spare: float = SHARE) -> Engine:
    """An engine for models that are placed and tuned so; `spare` as it takes it."""
    return Engine(placement.threads, policy, placement.device, graphs="graphs" in placement.speedups, spare=spare)


def tune(components: Mapping[str, Any], placement: Placement, sizes: Sequence[Size], backend: str = "inductor") -> None:
    """Changes the modules in place; `backend` is torch.compile's. For modules that lie where they stay.

    Pictures of these `sizes` are made by compiled parts. Those are made at the first call of each shape, on the
    engine's thread, which warming does before a worker takes jobs; torch keeps them on disk.
    """
    denoiser, speedups = components["unet"], placement.speedups
    if "channels_last" in speedups:  # convolutions read what lies side by side
        denoiser.to(memory_format=torch.channels_last)
    if "fuse" in speedups:  # one matrix product for query, key and value instead of three
        denoiser.fuse_qkv_projections()
    if "compile" in speedups:
        _compile(denoiser, sizes, backend)


def _compile(denoiser: Any, sizes: Sequence[Size], backend: str) -> None:
    """The blocks that a denoiser is made of, each kind once: half a minute a shape, where the whole takes several.

    One graph for every shape: with dynamic shapes a first call would decide how later ones round. Other sizes are never
    compiled: all that is in the making would wait for it.
    """
    for block in denoiser.modules():
        if type(block).__name__ in {*denoiser._repeated_blocks, *RESIDUAL}:
            block.compile(fullgraph=True, dynamic=False, backend=backend)
    compiled = {(height // LATENT, width // LATENT) for width, height in sizes}

    def choose(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        config = torch._dynamo.config  # of this thread alone, in newer versions of torch
        if config.recompile_limit != MOST_COMPILED:
            config.recompile_limit = config.accumulated_recompile_limit = MOST_COMPILED
            config.fail_on_recompile_limit_hit = True
        sample = given[0] if given else named["sample"]
        torch.compiler.set_stance("default" if tuple(sample.shape[2:]) in compiled else "force_eager")

    denoiser.register_forward_pre_hook(choose, with_kwargs=True)
