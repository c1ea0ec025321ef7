"""Between pictures and latents, outside of the pipelines and as they do it."""

from typing import Any

import torch
from PIL import Image

from darkroom.worker.batching.proxies import VaeProxy
from darkroom.worker.models.scale import LatentScale


class Autoencoder:
    """A model's VAE with the scale of its latents. `processor` is the pipelines' own image processor."""

    def __init__(self, vae: VaeProxy, processor: Any, scale: LatentScale) -> None:
        self._vae, self._processor, self.scale = vae, processor, scale

    def latents(self, picture: Image.Image, dtype: torch.dtype) -> torch.Tensor:
        """Latents (1, 4, h/8, w/8) of a picture (RGB) in the schedulers' scale: the mode of what the VAE gives.

        Nothing is drawn, so the same picture always has the same ones; img2img draws from the distribution instead.
        """
        return self.scale.from_vae(self._mode(picture).to(dtype))

    def picture(self, latents: torch.Tensor) -> Image.Image:
        """The picture (RGB) of latents (1, 4, h/8, w/8) in the schedulers' scale. Raises GenerationFailed."""
        return self._decoded(self.scale.to_vae(latents.to(self._vae.device)))

    def round_trip(self, picture: Image.Image) -> Image.Image:
        """The picture through the VAE and back, with no other scale in between that would round."""
        return self._decoded(self._mode(picture))

    def _mode(self, picture: Image.Image) -> torch.Tensor:
        found: torch.Tensor = self._vae.encode(self._processor.preprocess(picture)).latent_dist.mode()
        return found

    def _decoded(self, latents: torch.Tensor) -> Image.Image:
        pixels = self._vae.decode(latents, return_dict=False)[0]
        return self._processor.postprocess(pixels, output_type="pil")[0]  # type: ignore[no-any-return]
