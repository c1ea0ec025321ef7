"""Playground v2.5: SDXL's architecture, trained under the EDM formulation, with statistics of its latents."""

from dataclasses import replace

from darkroom.worker.models.families.base import Components, require
from darkroom.worker.models.families.schedules import EDM_SCHEDULERS
from darkroom.worker.models.families.sdxl import SDXL, check_architecture


def check(components: Components) -> None:
    """Raises ModelIncompatible for a model that is none of this family."""
    check_architecture(components, "playground")
    vae = components["vae"].config
    known = vae.get("latents_mean") is not None and vae.get("latents_std") is not None
    require(known, "playground", "its VAE has no latents_mean and latents_std", "vae")


PLAYGROUND = replace(SDXL, name="playground", schedulers=EDM_SCHEDULERS, check=check)
