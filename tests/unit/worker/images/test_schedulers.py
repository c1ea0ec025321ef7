"""Schedulers by id: the model's training config, the id's sampling, one object an image."""

import inspect
import json
import sys

import diffusers
import pytest
import torch

from darkroom.tasks.catalogue import MOST_STEPS, SCHEDULERS, builtin_catalogue
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.images.schedulers import check_schedulers, fits, make_scheduler, scheduler_record
from tests.unit.worker.conftest import DIFFUSION, EDM, Models

# numpy's complaint of torch, in schedulers' constructors
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TEMPLATE = diffusers.EulerDiscreteScheduler(
    beta_start=0.001,
    beta_end=0.02,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    timestep_spacing="trailing",
    steps_offset=1,
    num_train_timesteps=900,
)
EDM_TEMPLATE = diffusers.EDMDPMSolverMultistepScheduler(sigma_min=0.01, sigma_max=50.0, sigma_data=0.7, rho=6.0)


@pytest.mark.parametrize("name", DIFFUSION)
def test_what_the_model_was_trained_with_carries_over(name: str) -> None:
    config = make_scheduler(name, TEMPLATE, "sdxl", seed=0).config
    wanted = {
        "beta_start": 0.001,
        "beta_end": 0.02,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
        "num_train_timesteps": 900,
    }
    assert {key: config[key] for key in wanted} == wanted


@pytest.mark.parametrize("name", EDM)
def test_an_edm_models_sigmas_carry_over(name: str) -> None:
    config = make_scheduler(name, EDM_TEMPLATE, "playground", seed=0).config
    assert (config.sigma_min, config.sigma_max, config.sigma_data, config.rho) == (0.01, 50.0, 0.7, 6.0)


def test_an_id_means_its_sampling_whatever_the_models_file_prefers() -> None:
    own = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="sde-dpmsolver++", use_karras_sigmas=True, solver_order=3, beta_schedule="scaled_linear"
    )
    plain, karras = (make_scheduler(name, own, "sdxl", 0).config for name in ("dpmpp_2m", "dpmpp_2m_karras"))
    assert (plain.algorithm_type, plain.use_karras_sigmas, plain.solver_order) == ("dpmsolver++", False, 2)
    assert (karras.algorithm_type, karras.use_karras_sigmas) == ("dpmsolver++", True)
    assert make_scheduler("dpmpp_2m_sde", own, "sdxl", 0).config.algorithm_type == "sde-dpmsolver++"
    assert make_scheduler("euler", own, "sdxl", 0).config.use_karras_sigmas is False


@pytest.mark.parametrize("name", ["ddim", "ddpm", "pndm", "euler"])
@pytest.mark.parametrize("template", [diffusers.PNDMScheduler(), diffusers.DDIMScheduler(clip_sample=True)])
def test_latents_are_never_clipped_as_if_they_were_pixels(name: str, template: object) -> None:
    assert make_scheduler(name, template, "sd", 0).config.get("clip_sample", False) is False


def test_sd_gets_the_offset_that_its_pipelines_would_put_in_with_a_warning() -> None:
    old = diffusers.PNDMScheduler(steps_offset=0)
    assert make_scheduler("ddim", old, "sd", 0).config.steps_offset == 1
    assert make_scheduler("ddim", old, "sdxl", 0).config.steps_offset == 0


def test_every_call_makes_an_object_of_its_own_and_leaves_the_template() -> None:
    before = dict(TEMPLATE.config)
    one, two = make_scheduler("euler", TEMPLATE, "sdxl", 0), make_scheduler("euler", TEMPLATE, "sdxl", 0)
    one.set_timesteps(5)
    assert one is not two
    assert two.num_inference_steps is None
    assert dict(TEMPLATE.config) == before


def test_only_dpmpp_sde_has_a_seed_of_its_own() -> None:
    assert make_scheduler("dpmpp_sde", TEMPLATE, "sdxl", seed=41).config.noise_sampler_seed == 41
    assert "noise_sampler_seed" not in make_scheduler("dpmpp_2m_sde", TEMPLATE, "sdxl", seed=41).config


def test_a_scheduler_of_the_other_kind_is_refused() -> None:
    assert [name for name in SCHEDULERS if fits(name, TEMPLATE)] == DIFFUSION
    assert [name for name in SCHEDULERS if fits(name, EDM_TEMPLATE)] == EDM
    with pytest.raises(ModelIncompatible, match="EDM Euler"):
        make_scheduler("edm_euler", TEMPLATE, "sdxl", 0)
    with pytest.raises(ModelIncompatible, match="DDIM"):
        make_scheduler("ddim", EDM_TEMPLATE, "playground", 0)


def test_an_entry_with_wrong_schedulers_is_refused_by_all_their_names() -> None:
    entry = builtin_catalogue()["sdxl"].model_copy(update={"schedulers": ["euler", "edm_euler", "edm_dpmpp_2m"]})
    with pytest.raises(ModelIncompatible, match="edm_euler, edm_dpmpp_2m"):
        check_schedulers(entry, TEMPLATE)


@pytest.mark.parametrize("name", builtin_catalogue())
def test_the_built_in_entries_name_only_what_fits(models: Models, name: str) -> None:
    entry = builtin_catalogue()[name]
    check_schedulers(entry, models(entry.family).components["scheduler"])


@pytest.mark.parametrize("name", [*DIFFUSION, *EDM])
def test_the_record_is_plain_json_without_what_differs_between_images(name: str) -> None:
    template = EDM_TEMPLATE if name in EDM else TEMPLATE
    class_name, config = scheduler_record(name, template, "sdxl")
    assert class_name == type(make_scheduler(name, template, "sdxl", 7)).__name__
    assert json.loads(json.dumps(config)) == config
    assert not {"noise_sampler_seed", "_use_default_values", "_class_name"} & set(config)


@pytest.mark.parametrize("name", ["euler_a", "dpmpp_2m_sde", "ddpm", "lcm", "edm_euler"])
def test_noise_is_drawn_by_what_does_not_wait_for_a_gpu(name: str) -> None:
    template = EDM_TEMPLATE if name in EDM else TEMPLATE
    made = make_scheduler(name, template, "playground" if name in EDM else "sdxl", seed=0)
    drawn = sys.modules[type(made).__module__].randn_tensor
    assert drawn.__module__ == "darkroom.worker.images.schedulers"
    one, other = (torch.Generator().manual_seed(7) for _ in range(2))
    assert torch.equal(drawn((2, 3), generator=one, device="cpu"), torch.randn((2, 3), generator=other))
    assert drawn((2, 3), generator=one, device="meta").is_meta


STEP_NOISE = ("euler", "euler_a", "dpmpp_2m_sde", "ddim", "ddpm", "lcm")  # their step takes a generator


@pytest.mark.parametrize("name", [name for name in DIFFUSION if name not in ("pndm", "dpmpp_sde")])
def test_v_prediction_from_zero_snr_ends_at_the_picture_that_a_perfect_model_has_in_mind(name: str) -> None:
    trained = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    template = diffusers.EulerDiscreteScheduler.from_config({**TEMPLATE.config, **trained})
    known = diffusers.DDIMScheduler.from_config(template.config).alphas_cumprod.double()
    scheduler = make_scheduler(name, template, "sdxl", seed=0)
    scheduler.set_timesteps(10)
    draw = torch.Generator().manual_seed(0)
    picture, latents = torch.randn(2, 1, 4, 8, 8, generator=draw)
    latents = latents * scheduler.init_noise_sigma
    for step in scheduler.timesteps:
        below = int(step)  # Karras's steps lie between those of the training
        signal = known[below].lerp(known[min(below + 1, len(known) - 1)], float(step) - below)
        seen = scheduler.scale_model_input(latents, step)
        noise = (seen - signal.sqrt() * picture) / (1 - signal).sqrt()
        v = (signal.sqrt() * noise - (1 - signal).sqrt() * picture).float()
        drawn = {"generator": draw} if name in STEP_NOISE else {}
        latents = scheduler.step(v, step, latents, **drawn).prev_sample
    assert (latents - picture).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["pndm", "dpmpp_sde"])
def test_a_scheduler_that_divides_by_the_signal_is_refused_at_zero_snr(name: str) -> None:
    template = diffusers.DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    with pytest.raises(ModelIncompatible, match="zero terminal SNR"):
        make_scheduler(name, template, "sdxl", seed=0)


def run(name: str, template: object, steps: int) -> torch.Tensor:
    """Latents after so many steps of a denoiser that sees little noise."""
    made = make_scheduler(name, template, "sd", seed=7)
    made.set_timesteps(steps)
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(1, 4, 2, 2, generator=generator) * made.init_noise_sigma
    noise = {"generator": generator} if "generator" in inspect.signature(made.step).parameters else {}
    for moment in made.timesteps:
        seen = made.scale_model_input(latents, moment)
        latents = made.step(seen * 0.1, moment, latents, return_dict=False, **noise)[0]
    return latents


@pytest.mark.parametrize("name", MOST_STEPS)
def test_the_most_steps_that_may_be_asked_for(name: str) -> None:
    """One of them more, and LCM raises; the others do beyond 994."""
    template = diffusers.DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1)
    assert torch.isfinite(run(name, template, MOST_STEPS[name])).all()


@pytest.mark.parametrize("name", [name for name in DIFFUSION if name not in ("pndm", "dpmpp_sde")])
def test_many_steps_from_zero_snr(name: str) -> None:
    """Karras' first sigmas then lie so close that their time steps are alike."""
    template = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    assert torch.isfinite(run(name, template, 33)).all()
