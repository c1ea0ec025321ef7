"""The shared denoiser and VAE behind their proxies."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from darkroom.tasks.catalogue import Family
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.proxies import DenoiserProxy, VaeProxy
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.unit.worker.conftest import FAMILIES, Generators, Models, make, photo, same

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CPU = torch.device("cpu")


@pytest.fixture
def half(tiny_models: TinyModels, engine: Engine) -> Iterator[Generator]:
    """SDXL in half precision with its VAE in float32: what a float16 worker has, in a dtype that a CPU can run."""
    model = load_model(tiny_models("sdxl"), Placement(CPU, torch.bfloat16, "full", 1), WorkerSettings())
    vae = model.components["vae"].float()
    yield Generator(replace(model, components={**model.components, "vae": vae}), engine)
    assert vae.dtype == torch.float32


def test_a_pipeline_neither_moves_nor_casts_the_shared_modules(models: Models, engine: Engine) -> None:
    unet, vae = (models("sdxl").components[name] for name in ("unet", "vae"))
    for real, seen in ((unet, DenoiserProxy(unet, engine, CPU, Ticket())), (vae, VaeProxy(vae, engine, CPU))):
        assert seen.to(torch.float16) is seen
        assert seen.to("meta", dtype=torch.float16).dtype == real.dtype == torch.float32
        assert list(seen.parameters()) == []
        assert seen.config is real.config


def test_every_model_call_runs_on_the_engines_thread(models: Models, engine: Engine) -> None:
    model, threads = models("sdxl"), set()
    parts = [model.components[name] for name in ("unet", "text_encoder", "text_encoder_2")]
    parts += [model.components["vae"].encoder, model.components["vae"].decoder]
    hooks = [part.register_forward_hook(lambda *_: threads.add(threading.get_ident())) for part in parts]
    make(Generator(model, engine), 1, photo())
    for hook in hooks:
        hook.remove()
    assert threads == {engine.call(threading.get_ident)}


def test_a_vae_of_another_dtype_is_cast_to_and_fro(models: Models, engine: Engine) -> None:
    vae = VaeProxy(models("sd").components["vae"], engine, CPU)
    pixels = torch.rand(1, 3, 32, 32).to(torch.bfloat16)
    found = vae.encode(pixels).latent_dist
    assert found.mode().dtype == torch.bfloat16 and found.mode().shape == (1, 4, 4, 4)
    assert vae.decode(found.mode(), return_dict=False)[0].shape == (1, 3, 32, 32)
    assert vae.decode(found.mode()).sample.dtype == torch.float32


def test_img2img_beside_txt2img_does_not_move_the_vae(half: Generator) -> None:
    """With `force_upcast`, diffusers' pipelines carry the VAE to float32 and back around each use."""
    sources = [None, photo(1), None, photo(2)]
    alone = [make(half, seed, source) for seed, source in enumerate(sources)]
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(make, [half] * 12, [0, 1, 2, 3] * 3, sources * 3))
    assert all(same(one, other) for one, other in zip(beside, alone * 3, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_finds_its_device_and_dtype_by_the_proxies(generators: Generators, family: Family) -> None:
    generator = generators(family)
    pipe = generator._pipeline("img2img", generator.model.entry.defaults.scheduler, 0, generator._no_texts, Ticket())
    assert pipe._execution_device == CPU
    assert pipe.dtype == torch.float32
