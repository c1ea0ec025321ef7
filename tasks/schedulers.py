"""Schedulers by name: what kind of model each fits, and how many steps it can make."""

from typing import Literal

Prediction = Literal["diffusion", "edm", "distilled"]

#: Schedulers by the field's names, and which kind of model each fits.
SCHEDULERS: dict[str, tuple[str, Prediction]] = {
    "euler": ("Euler", "diffusion"),
    "euler_a": ("Euler a", "diffusion"),
    "dpmpp_2m": ("DPM++ 2M", "diffusion"),
    "dpmpp_2m_karras": ("DPM++ 2M Karras", "diffusion"),
    "dpmpp_2m_sde": ("DPM++ 2M SDE", "diffusion"),
    "dpmpp_sde": ("DPM++ SDE", "diffusion"),
    "ddim": ("DDIM", "diffusion"),
    "ddpm": ("DDPM", "diffusion"),
    "unipc": ("UniPC", "diffusion"),
    "pndm": ("PNDM", "diffusion"),
    "lcm": ("LCM", "distilled"),
    "edm_dpmpp_2m": ("EDM DPM++ 2M", "edm"),
    "edm_euler": ("EDM Euler", "edm"),
}

#: Steps that a scheduler's own schedule has, where it cannot do more: LCM was distilled in 50; with nearly as many as
#: there are of training, others look beyond their tables, or divide by the zero between two that are alike.
MOST_STEPS = {"lcm": 50, **dict.fromkeys(("ddim", "ddpm", "pndm", "dpmpp_2m", "dpmpp_2m_sde", "unipc"), 990)}


def scheduler_id(name: str) -> str:
    """`DPM++ 2M Karras` -> `dpmpp_2m_karras`; an id stays as it is."""
    return name.strip().lower().replace("++", "pp").replace(" ", "_").replace("-", "_")
