"""Latents as files: what is kept of an image besides its picture, or instead of it."""

import torch

from darkroom.tasks.catalogue import ModelOffer
from darkroom.worker.kinds.products import ProducedFile
from darkroom.worker.models.scale import LatentScale

ROLE = "latents"  # of the file, and the name of the tensor in it
FACTOR = 8  # pixels of a picture's side for each of its latents'


def latents_file(latents: torch.Tensor, offer: ModelOffer, scale: LatentScale, **about: object) -> ProducedFile:
    """A file of latents (1, 4, h/8, w/8) in the scale that schedulers leave them in, and in their own dtype.

    Its metadata say whose they are, the picture's size in pixels, and how they become what the VAE decodes.
    """
    height, width = (FACTOR * side for side in latents.shape[2:])
    of = {"family": offer.family, "model": offer.name, "width": width, "height": height}
    vae = {"scaling_factor": scale.factor, "latents_mean": scale.mean, "latents_std": scale.std}
    return ProducedFile.of_tensors(ROLE, {ROLE: latents}, **of, **vae, **about)
