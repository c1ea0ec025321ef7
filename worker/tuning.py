"""What makes the denoiser faster on a GPU, as the settings ask; each changes last bits, so a manifest records it.

Nothing here has been timed on a GPU yet: `python -m bench.serve` has the cells for it.
"""

from collections.abc import Mapping
from typing import Any

import torch

from darkroom.worker.device import Placement
from darkroom.worker.settings import SPEEDUPS, Speedup

#: Shapes of one model that may be compiled: buckets times sizes. Past it a call fails instead of running eagerly.
MOST_GRAPHS = 64


def tune(components: Mapping[str, Any], placement: Placement, backend: str = "inductor") -> None:
    """Changes the modules in place; `backend` is torch.compile's. For modules that lie where they stay.

    The compiled parts are made at the first call of each shape, on the engine's thread, which warming does before a
    worker takes jobs; torch keeps them on disk (TORCHINDUCTOR_CACHE_DIR).
    """
    denoiser = components["unet"]
    for speedup in (name for name in SPEEDUPS if name in placement.speedups):
        _APPLY[speedup](denoiser, backend)


def _channels_last(denoiser: Any, _backend: str) -> None:
    """Convolutions read what lies side by side: cuDNN's tensor cores want it so."""
    denoiser.to(memory_format=torch.channels_last)


def _fuse(denoiser: Any, _backend: str) -> None:
    """One matrix product for query, key and value instead of three."""
    denoiser.fuse_qkv_projections()


def _compile(denoiser: Any, backend: str) -> None:
    """The repeated transformer blocks, each kind once: seconds to compile, where the whole takes minutes.

    One graph for every shape: with dynamic shapes a first call would decide how later ones round.
    """
    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    denoiser.compile_repeated_blocks(fullgraph=True, dynamic=False, backend=backend)


_APPLY: dict[Speedup, Any] = {"channels_last": _channels_last, "fuse": _fuse, "compile": _compile}
