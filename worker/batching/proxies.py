"""What the pipelines see in place of the shared denoiser and VAE.

Every image has a pipeline of its own; all of them hold these proxies, which hand each call to the engine. They are
modules without parameters, so that a pipeline finds its device by them and cannot move the real ones.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput

from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.extras import Extra
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.errors import GenerationFailed


class NotFinite(GenerationFailed):
    """Numbers overflowed on the way to a picture, which would come out black."""


class _Proxy(torch.nn.Module):
    real: Any

    def __init__(self, real: Any, engine: Engine, device: torch.device) -> None:
        super().__init__()
        object.__setattr__(self, "real", real)  # past nn.Module, which would take it for a part of this one
        self._engine = engine
        self._device = device

    @property
    def config(self) -> Any:
        return self.real.config

    @cached_property
    def dtype(self) -> torch.dtype:
        """Found once: diffusers walks through all modules for it, at each of many questions."""
        return self.real.dtype  # type: ignore[no-any-return]

    @property
    def device(self) -> torch.device:
        """Where calls run; under offloading the weights rest elsewhere."""
        return self._device

    def to(self, *_args: Any, **_kwargs: Any) -> Self:
        """Nothing: a pipeline that moves or casts the module would do it to its neighbours."""
        return self


class DenoiserProxy(_Proxy):
    """The denoiser, as the image of one ticket sees it; the one place where calls of several images are stacked.

    `called` is what is called in its place, with the argument `extras` more: what the image brings for so many rows.
    """

    def __init__(
        self,
        real: Any,
        engine: Engine,
        device: torch.device,
        ticket: Ticket,
        called: Callable[..., Any] | None = None,
        extras: Callable[[int], tuple[Extra, ...]] = lambda _: (),
    ) -> None:
        super().__init__(real, engine, device)
        self._ticket, self._called, self._extras = ticket, called, extras

    @property
    def add_embedding(self) -> Any:
        """SDXL's pipelines read the width of its first layer."""
        return self.real.add_embedding

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The real denoiser's result: noise for latents (rows, 4, h/8, w/8), two rows an image under guidance."""
        if self._called is None:
            return self._engine.denoise(self.real, args, kwargs, self._ticket)
        rows = len(args[0] if args else kwargs["sample"])
        return self._engine.denoise(self._called, args, kwargs, self._ticket, self._extras(rows))


class VaeProxy(_Proxy):
    """The VAE, in the dtype that it was loaded in: calls are cast to it, and no pipeline changes it."""

    def encode(self, pixels: torch.Tensor) -> AutoencoderKLOutput:
        """The distribution of latents of pixels (1, 3, h, w) in -1…1, in the dtype of the pixels."""
        found = self._engine.call(self._moments, pixels.to(self.device, self.dtype))
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(found.to(pixels.dtype)))

    def decode(self, latents: torch.Tensor, **options: Any) -> Any:
        """Pixels (1, 3, h, w) of latents (1, 4, h/8, w/8), as diffusers returns them.

        Raises NotFinite where they are no numbers: such a picture would come out black.
        """
        decoded = self._engine.call(self.real.decode, latents.to(self.device, self.dtype), **options)
        if not torch.isfinite(decoded[0]).all():
            raise _not_finite("VAE" if torch.isfinite(latents).all() else "denoiser", latents.dtype)
        return decoded

    def _moments(self, pixels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.real.encode(pixels).latent_dist.parameters
        return found


def _not_finite(part: str, dtype: torch.dtype) -> NotFinite:
    name = str(dtype).removeprefix("torch.")
    return NotFinite(
        f"the {part} gave values that are no numbers, in {name}",
        hint="start the worker with --dtype float32, or bfloat16 on a GPU that has it; else the weights are broken",
    )
