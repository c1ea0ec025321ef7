"""Diffusers' inpainting pipelines, with what they lack: a model of 9 channels keeps what is not masked, at any
strength; the statistics of a VAE's latents count; one of 4 channels encodes no picture that it does not look at.
"""

from typing import Any

import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline

#: Channels of a denoiser: of latents alone, and with those of a mask and of the picture without what it masks.
PLAIN, MASKED = 4, 9


class _Inpainting:
    """Over a diffusers pipeline; one object makes one picture."""

    unet: Any
    vae: Any
    scheduler: Any
    _kept: tuple[torch.Tensor, torch.Tensor]  # latents of the source, noise

    def __call__(self, *args: Any, callback_on_step_end: Any, **named: Any) -> Any:
        """As the pipeline's own, which blends the source back in after each step only where there are 4 channels.

        Else a model of 9 changes all of the picture, and at full strength leaves noise in it (diffusers #5647, #8450).
        """
        if self.unet.config.in_channels == PLAIN:
            return super().__call__(*args, callback_on_step_end=callback_on_step_end, **named)  # type: ignore[misc]

        def blended(pipeline: Any, index: int, step: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
            tensors["latents"] = self._blended(index, tensors["latents"], tensors.pop("mask")[:1])
            return {"latents": tensors["latents"], **callback_on_step_end(pipeline, index, step, tensors)}

        inputs = ["latents", "mask"]
        return super().__call__(  # type: ignore[misc]
            *args, callback_on_step_end=blended, callback_on_step_end_tensor_inputs=inputs, **named
        )

    def prepare_latents(self, *args: Any, return_image_latents: bool = False, **named: Any) -> Any:
        """The pipeline's own; latents of the source are made in any case."""
        latents, noise, source = super().prepare_latents(*args, return_image_latents=True, **named)  # type: ignore[misc]
        self._kept = source, noise
        return (latents, noise, source) if return_image_latents else (latents, noise)

    def prepare_mask_latents(self, mask: Any, masked_image: torch.Tensor, *args: Any, **named: Any) -> Any:
        """The pipeline's own; in place of a picture that no denoiser reads, latents that cost nothing."""
        if self.unet.config.in_channels == PLAIN:
            masked_image = masked_image.new_zeros(1, PLAIN, 1, 1)
        return super().prepare_mask_latents(mask, masked_image, *args, **named)  # type: ignore[misc]

    def _blended(self, index: int, latents: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        (source, noise), steps = self._kept, self.scheduler.timesteps[-self.num_timesteps :]  # type: ignore[attr-defined]
        if index + 1 < len(steps):
            source = self.scheduler.add_noise(source, noise, torch.tensor([steps[index + 1]]))
        return ((1 - mask) * source + mask * latents).to(latents.dtype)


class SdInpaintPipeline(_Inpainting, StableDiffusionInpaintPipeline):  # type: ignore[misc]
    """Stable Diffusion's."""


class SdxlInpaintPipeline(_Inpainting, StableDiffusionXLInpaintPipeline):  # type: ignore[misc]
    """SDXL's. Latents may have a mean and a deviation (Playground's), which diffusers forgets where it encodes here."""

    def _encode_vae_image(self, image: torch.Tensor, generator: Any) -> torch.Tensor:
        latents: torch.Tensor = super()._encode_vae_image(image, generator)
        config = self.vae.config
        if config.get("latents_mean") is None or config.get("latents_std") is None:
            return latents
        mean, deviation = (
            torch.tensor(config[name]).view(1, -1, 1, 1).to(latents) for name in ("latents_mean", "latents_std")
        )
        found: torch.Tensor = (latents - mean * config.scaling_factor) / deviation
        return found
