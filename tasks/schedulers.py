"""Schedulers by name: what kind of model each fits, how many steps it can make, and what an entry may say of them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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


class _Config(BaseModel):
    """What may be another one than the model's own scheduler has: diffusers' names and values."""

    model_config = ConfigDict(extra="forbid", strict=True)

    timestep_spacing: Literal["leading", "linspace", "trailing"] = "leading"
    steps_offset: int = Field(default=0, ge=0, le=1000)
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"
    beta_start: float = Field(default=0.00085, gt=0, lt=1)
    beta_end: float = Field(default=0.012, gt=0, lt=1)


def _named(config: object) -> dict[str, Any]:
    return _Config.model_validate(config).model_dump(exclude_unset=True)


#: What few-step models want of a scheduler, over the config that the model's own has; such as trailing time steps.
SchedulerConfig = Annotated[dict[str, Any], BeforeValidator(_named)]
