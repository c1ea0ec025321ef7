"""Generations that end early or go wrong: the next one is as if nothing had been."""

import copy
import gc
import weakref
from dataclasses import replace

import pytest
import torch

from darkroom.tasks.catalogue import Family
from darkroom.tasks.errors import InvalidRequest
from darkroom.worker.batching.engine import Engine
from darkroom.worker.errors import GenerationFailed, ModelIncompatible
from darkroom.worker.images.generate import Generator
from tests.unit.worker.conftest import Generators, Models, ask, ignore, make, photo, same

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Stop(Exception):
    """A caller's way out of a generation."""


@pytest.mark.parametrize("error", [Stop("enough"), KeyboardInterrupt(), SystemExit(2), ValueError("not a fault")])
def test_what_on_step_raises_comes_out_unchanged_and_leaves_nothing(
    generators: Generators, error: BaseException
) -> None:
    generator = generators("sdxl")
    before = make(generator, 4, scheduler="dpmpp_sde")
    prepared = generator.prepare(ask(generator, scheduler="dpmpp_sde"))
    latents: list[weakref.ref[torch.Tensor]] = []

    def stop(step: int, _of: int, tensor: torch.Tensor) -> None:
        latents.append(weakref.ref(tensor))
        if step == 2:
            raise error

    with pytest.raises(type(error)) as raised:
        generator.generate(prepared, 4, {}, stop)
    assert raised.value is error
    assert same(make(generator, 4, scheduler="dpmpp_sde"), before)
    error.__traceback__ = None
    del raised
    gc.collect()
    assert all(latent() is None for latent in latents)


def broken(models: Models, engine: Engine, family: Family, part: str) -> Generator:
    """A generator whose own copy of one part may be spoiled: `generator.model.components[part]`."""
    model = models(family)
    return Generator(
        replace(model, components={**model.components, part: copy.deepcopy(model.components[part])}), engine
    )


@pytest.mark.parametrize(("part", "spoil"), [("unet", "conv_out"), ("vae", "post_quant_conv")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_picture_of_no_numbers_is_a_failure(
    models: Models, engine: Engine, part: str, spoil: str, value: float
) -> None:
    generator = broken(models, engine, "sdxl", part)
    getattr(generator.model.components[part], spoil).bias.data.fill_(value)
    with pytest.raises(GenerationFailed, match="VAE" if part == "vae" else "denoiser") as raised:
        make(generator)
    assert "--dtype float32" in raised.value.hint


def test_a_round_trip_of_no_numbers_is_a_failure_too(models: Models, engine: Engine) -> None:
    generator = broken(models, engine, "sd", "vae")
    generator.model.components["vae"].quant_conv.bias.data.fill_(float("nan"))
    with pytest.raises(GenerationFailed):
        make(generator, 1, photo(), strength=0.0)


def test_a_pipelines_error_is_ours_and_short(models: Models, engine: Engine) -> None:
    generator = broken(models, engine, "sd", "unet")
    generator.model.components["unet"].conv_in = torch.nn.Conv2d(5, 16, 3)
    with pytest.raises(GenerationFailed, match=r"RuntimeError: .*channels") as raised:
        make(generator)
    assert len(raised.value.message) <= 300
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert make(Generator(models("sd"), engine)).size == (32, 32)


def test_what_the_model_does_not_do_is_refused_by_field(models: Models, engine: Engine, generators: Generators) -> None:
    model = models("sdxl")
    entry = model.entry.model_copy(update={"kinds": ["txt2img"], "schedulers": ["euler"]})
    narrow = Generator(replace(model, entry=entry), engine)
    request = ask(generators("sdxl"), image="inputs/default/it.png", scheduler="ddim")
    with pytest.raises(InvalidRequest) as raised:
        narrow.prepare(request)
    assert {fault.field for fault in raised.value.faults} == {"kind", "scheduler"}


def test_a_request_whose_defaults_are_missing_is_refused(generators: Generators) -> None:
    unresolved = ask(generators("sd")).model_copy(update={"scheduler": None, "width": None})
    with pytest.raises(InvalidRequest) as raised:
        generators("sd").prepare(unresolved)
    assert [fault.field for fault in raised.value.faults] == ["scheduler", "width"]


def test_img2img_without_its_picture_fails_alone(generators: Generators) -> None:
    generator = generators("sd")
    prepared = generator.prepare(ask(generator, image="inputs/default/it.png"))
    with pytest.raises(GenerationFailed, match="without its image"):
        generator.generate(prepared, 1, {}, ignore)


def test_a_model_whose_entry_names_unfit_schedulers_is_not_served(models: Models, engine: Engine) -> None:
    model = models("sdxl")
    entry = model.entry.model_copy(update={"schedulers": ["euler", "edm_euler"]})
    with pytest.raises(ModelIncompatible, match="edm_euler"):
        Generator(replace(model, entry=entry), engine)
