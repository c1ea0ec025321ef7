"""What one pass through the denoiser learns from."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Conditioning:
    """Captions encoded: `states` (n, tokens, width), and `pooled` (n, width) where the model has it."""

    states: torch.Tensor
    pooled: torch.Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Examples of one size, n of them.

    `latents`: (n, 4, h/8, w/8) float32, in the scale that schedulers work in. `keys`: one for each example; noise and
    time step follow from it alone. Of `captions` and `conditioning` one is given: captions where text encoders train.
    `sizes` (n, 6), for SDXL's structure: height and width of the original, top and left of the crop, height and width
    of the target, in pixels. `prior`: what keeps what the model knew; it is learned from in a pass of its own, and may
    be of another size.
    """

    latents: torch.Tensor
    keys: tuple[int, ...]
    captions: tuple[str, ...] = ()
    conditioning: Conditioning | None = None
    sizes: torch.Tensor | None = None
    prior: "Batch | None" = None
