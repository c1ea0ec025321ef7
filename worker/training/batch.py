"""What one pass through the denoiser learns from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Conditioning:
    """Captions encoded: `states` (n, tokens, width), and `pooled` (n, width) where the model has it."""

    states: torch.Tensor
    pooled: torch.Tensor | None = None

    @classmethod
    def joined(cls, found: "Sequence[Conditioning]") -> "Conditioning | None":
        """All of them, one after the other; None where they are not equally long."""
        if len({one.states.shape[1] for one in found}) > 1:
            return None
        pooled = [one.pooled for one in found if one.pooled is not None]
        return cls(torch.cat([one.states for one in found]), torch.cat(pooled) if pooled else None)


@dataclass(frozen=True)
class Batch:
    """Examples of one size, n of them.

    `latents`: (n, 4, h/8, w/8) float32, in the scale that schedulers work in. `keys`: one for each example; noise and
    time step follow from it alone. Of `captions` and `conditioning` one is given: captions where text encoders train.
    `sizes` (n, 6), for SDXL's structure: height and width of the original, top and left of the crop, height and width
    of the target, in pixels. `prior`: what keeps what the model knew; it may be of another size.
    """

    latents: torch.Tensor
    keys: tuple[int, ...]
    captions: tuple[str, ...] = ()
    conditioning: Conditioning | None = None
    sizes: torch.Tensor | None = None
    prior: "Batch | None" = None

    def with_prior(self) -> "Batch | None":
        """Its examples and those of its prior as one; None where these are not as many or of another size."""
        other = self.prior
        if other is None or other.latents.shape != self.latents.shape:
            return None
        said = None
        if self.conditioning is not None and other.conditioning is not None:
            said = Conditioning.joined([self.conditioning, other.conditioning])
            if said is None:
                return None
        return Batch(
            latents=torch.cat([self.latents, other.latents]),
            keys=self.keys + other.keys,
            captions=self.captions + other.captions,
            conditioning=said,
            sizes=None if self.sizes is None or other.sizes is None else torch.cat([self.sizes, other.sizes]),
        )
