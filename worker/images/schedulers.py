"""Schedulers by their ids (`darkroom.tasks.catalogue.SCHEDULERS`): a fresh object for every image.

A scheduler holds a cursor, and some hold the image's noise, so none is ever shared. What the model was trained with
(betas, prediction type, spacing, sigmas) comes from the model's own scheduler; the id decides how it is sampled.
"""

import sys
import warnings
from collections.abc import Mapping
from functools import lru_cache, wraps
from inspect import signature
from typing import Any

import diffusers
import torch
from diffusers.utils.torch_utils import randn_tensor

from darkroom.tasks.catalogue import SCHEDULERS, Family, ModelOffer
from darkroom.worker.errors import ModelIncompatible

# torchsde rounds its interval to six digits, then complains of a sigma that lies a rounding outside of it.
warnings.filterwarnings("ignore", message="Should have t[ab]", module="torchsde")

# An id means one schedule of sigmas, also where a model's own file asks for another.
_PLAIN_SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}

# Latents reach well beyond [-1, 1], where DDIM and DDPM would clip them unless told; PNDM's Runge-Kutta start was
# made for pixels and cannot do few steps.
_LATENTS = {**_PLAIN_SIGMAS, "clip_sample": False, "skip_prk_steps": True}

_DPMPP = {"algorithm_type": "dpmsolver++", "solver_order": 2}

_CORRECT = "correct `schedulers` in the catalogue entry"

_RECIPES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler_a": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, _DPMPP),
    "dpmpp_2m_karras": (diffusers.DPMSolverMultistepScheduler, {**_DPMPP, "use_karras_sigmas": True}),
    "dpmpp_2m_sde": (diffusers.DPMSolverMultistepScheduler, {**_DPMPP, "algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_sde": (diffusers.DPMSolverSDEScheduler, {}),
    "ddim": (diffusers.DDIMScheduler, {}),
    "ddpm": (diffusers.DDPMScheduler, {}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
    "pndm": (diffusers.PNDMScheduler, {}),
    "lcm": (diffusers.LCMScheduler, {}),
    "edm_dpmpp_2m": (diffusers.EDMDPMSolverMultistepScheduler, {**_DPMPP}),
    "edm_euler": (diffusers.EDMEulerScheduler, {}),
}

# What a family's pipelines demand of a scheduler: they change it otherwise, with a warning for every image.
_DEMANDED: dict[Family, dict[str, Any]] = {"sd": {"steps_offset": 1}}


def make_scheduler(name: str, template: Any, family: Family, seed: int) -> Any:
    """The scheduler `name` for one image of a model whose own scheduler is `template`, which stays as it is.

    DPM++ SDE draws its noise from a Brownian tree of its own, grown from `seed`; the others use the generator that
    the pipeline hands them. Raises ModelIncompatible where `name` is of another kind than the model.
    """
    if not fits(name, template):
        raise ModelIncompatible(f"the scheduler {SCHEDULERS[name][0]} is not for {_about(template)}", hint=_CORRECT)
    _, options = _RECIPES[name]
    if name == "dpmpp_sde":
        options = {"noise_sampler_seed": seed}
    return _CLASSES[name].from_config({**_training(template), **_sampling(name, family), **options})


def _counting_on_the_host(kind: type[Any]) -> type[Any]:
    """The class, with time steps that stay in the host's memory, and that begins with the first of them.

    Schedulers look into tables there by their time step; one that lay on a GPU would be waited for at every step.
    Where the first two are alike (Karras' sigmas and zero terminal SNR), they would begin with the second and run out
    at the end. Pipelines that begin further on say so afterwards.
    """
    asked = signature(kind.set_timesteps)

    @wraps(kind.set_timesteps)  # pipelines ask for its parameters
    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        bound = asked.bind(*args, **kwargs)
        bound.arguments["device"] = "cpu"
        kind.set_timesteps(*bound.args, **bound.kwargs)
        if hasattr(kind, "set_begin_index"):
            bound.arguments["self"].set_begin_index(0)

    return type(kind.__name__, (kind,), {"set_timesteps": set_timesteps, "__module__": kind.__module__})


def _drawn(shape: Any, generator: Any = None, device: Any = None, dtype: Any = None, layout: Any = None) -> Any:
    """Diffusers' `randn_tensor`. Noise that the host draws for a GPU goes there without being waited for."""
    of_host = isinstance(generator, torch.Generator) and generator.device.type == "cpu"
    if not of_host or device is None or torch.device(device).type != "cuda":
        return randn_tensor(shape, generator, device, dtype, layout)
    return torch.randn(shape, generator=generator, dtype=dtype, pin_memory=True).to(device, non_blocking=True)


for _kind, _ in _RECIPES.values():  # where each of them looks for it
    if hasattr(sys.modules[_kind.__module__], "randn_tensor"):
        sys.modules[_kind.__module__].randn_tensor = _drawn  # type: ignore[attr-defined]

_CLASSES = {name: _counting_on_the_host(kind) for name, (kind, _) in _RECIPES.items()}


def count_steps(scheduler: Any, steps: int, strength: float, start: float | None, end: float | None) -> int:
    """Time steps of a schedule of `steps` that lie between `start` and `end`, as SDXL's pipelines cut it.

    For schedulers that call the denoiser once a step. Without a `start` it begins where `strength` leaves off.
    """
    scheduler.set_timesteps(steps)
    times = [float(time) for time in scheduler.timesteps]
    if start is not None:
        times = [time for time in times if time < _time_at(start, scheduler)]
    else:
        times = times[max(steps - min(int(steps * strength), steps), 0) :]
    return len(times if end is None else [time for time in times if time >= _time_at(end, scheduler)])


def _time_at(part: float, scheduler: Any) -> int:
    of = scheduler.config.num_train_timesteps
    return int(round(of - part * of))  # noqa: RUF046 - as the pipelines write it


def fits(name: str, template: Any) -> bool:
    """EDM schedulers belong to EDM models (they have `sigma_data`), all others to the rest.

    Of those some cannot begin at zero terminal SNR: their steps divide by it.
    """
    if template.config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in _parameters(name):
        return False
    return (SCHEDULERS[name][1] == "edm") == ("sigma_data" in template.config)


def _parameters(name: str) -> Mapping[str, Any]:
    return signature(_RECIPES[name][0].__init__).parameters


def _about(template: Any) -> str:
    zero = " and zero terminal SNR" if template.config.get("rescale_betas_zero_snr") else ""
    return f"a model with a {type(template).__name__}{zero}"


def check_schedulers(offer: ModelOffer, template: Any) -> None:
    """Raises ModelIncompatible where the entry names schedulers that do not fit the model; names all of them."""
    wrong = [name for name in offer.schedulers if not fits(name, template)]
    if wrong:
        named = ", ".join(wrong)
        raise ModelIncompatible(f"{offer.name} is {_about(template)}: {named} cannot run it", hint=_CORRECT)


@lru_cache(maxsize=64)
def scheduler_record(name: str, template: Any, family: Family) -> tuple[str, Mapping[str, Any]]:
    """Class name and config as a manifest keeps them, without what differs from image to image."""
    made = make_scheduler(name, template, family, seed=0)
    config = {key: value for key, value in sorted(made.config.items()) if not key.startswith("_")}
    config.pop("noise_sampler_seed", None)
    return type(made).__name__, config


def _training(template: Any) -> dict[str, Any]:
    """The template's config without values that nobody chose: another class has its own defaults for those."""
    config = dict(template.config)
    unchosen = config.pop("_use_default_values", [])
    return {key: value for key, value in config.items() if key not in unchosen}


def _sampling(name: str, family: Family) -> dict[str, Any]:
    return {} if SCHEDULERS[name][1] == "edm" else {**_LATENTS, **_DEMANDED.get(family, {})}
