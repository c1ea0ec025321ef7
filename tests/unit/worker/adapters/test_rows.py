"""LoRAs by row: what an image gets of them, alone and beside others."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from darkroom.tasks.catalogue import Family
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.adaptable import adapt
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.together import together
from tests.unit.worker.adapters.stocked import LORAS, stocked
from tests.unit.worker.adapters.writers import train
from tests.unit.worker.conftest import ask, make, same


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loras")


@pytest.fixture(scope="module", params=["sdxl", "sd"])
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def own_engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def generator(tiny_models: TinyModels, own_engine: Engine, folder: Path, family: Family) -> Generator:
    placement = Placement(torch.device("cpu"), torch.float64, "full", 1)
    return stocked(load_model(tiny_models(family), placement, WorkerSettings()), own_engine, folder)


@pytest.fixture(scope="module")
def plain(tiny_models: TinyModels, own_engine: Engine, family: Family) -> Generator:
    placement = Placement(torch.device("cpu"), torch.float64, "full", 1)
    return Generator(load_model(tiny_models(family), placement, WorkerSettings()), own_engine)


def latents(generator: Generator, seed: int = 1, ticket: Ticket | None = None, **fields: Any) -> torch.Tensor:
    """The last ones of an image."""
    kept: list[torch.Tensor] = []
    make(generator, seed, ticket=ticket, on_step=lambda *it: kept.append(it[2].clone()), **fields)
    return kept[-1]


def fused(plain: Generator, generator: Generator, scales: Mapping[str, float]) -> Generator:
    """What stock programs do: the weights themselves changed, in a copy."""
    components = {
        name: deepcopy(part) if isinstance(part, torch.nn.Module) else part
        for name, part in plain.model.components.items()
    }
    for name, scale in scales.items():
        assert generator.adapters
        for one in train(plain.model, **LORAS[name]):
            components[one.part].get_submodule(one.path).weight.data += scale * one.delta
    slots = {name: adapt(components[name]) for name in plain.model.slots}
    return Generator(replace(plain.model, components=components, slots=slots), plain.engine)


@pytest.mark.parametrize(
    "scales", [{"attention": 1.0}, {"wide": 0.5}, {"told": -0.75, "attention": 0.5}, {"convolution": 1.0, "wide": 0.3}]
)
def test_it_is_the_picture_of_the_changed_weights(
    plain: Generator, generator: Generator, scales: dict[str, float]
) -> None:
    loras = [{"name": name, "scale": scale} for name, scale in scales.items()]
    wanted = latents(fused(plain, generator, scales), negative_prompt="fog")
    found = latents(generator, loras=loras, negative_prompt="fog")
    assert (latents(plain, negative_prompt="fog") - wanted).abs().max() > 0.01
    assert (found - wanted).abs().max() < 1e-9


JOBS: list[dict[str, Any]] = [
    {},
    {"loras": ["attention"]},
    {"loras": ["attention:0.5", "wide:0.5"]},
    {"loras": ["wide:0.25", "attention:-1"], "guidance_scale": 1.0},
    {"loras": ["told:0.8"], "num_inference_steps": 4},
    {"loras": ["convolution"]},
    {"scheduler": "ddim"},
    {"loras": ["attention", "convolution:0.5", "told:0.1", "wide:0.2"]},
]


def beside(
    generator: Generator, jobs: list[dict[str, Any]], *, at_once: bool = False
) -> list[tuple[torch.Tensor, str]]:
    """Their latents and places, all at a time; `at_once`: no first step before all have come to theirs."""
    each = together(len(jobs) if at_once else 1)
    tickets = [Ticket(on_call=each()) for _ in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        found = pool.map(
            lambda it: latents(generator, it[0], it[2], **it[1]), zip(range(9), jobs, tickets, strict=False)
        )
        return list(zip(found, (str(ticket.placements) for ticket in tickets), strict=True))


def test_unlike_images_share_calls_and_come_out_as_alone(generator: Generator) -> None:
    before = generator.engine.stats()
    made = beside(generator, JOBS, at_once=True)
    after = generator.engine.stats()
    assert sum(after.model_calls.values()) - sum(before.model_calls.values()) < after.calls - before.calls
    for seed, (job, (found, calls)) in enumerate(zip(JOBS, made, strict=True)):
        again = Ticket(script=Script(calls))
        assert torch.equal(latents(generator, seed, again, **job), found)
        assert str(again.placements) == calls
        assert (latents(generator, seed, **job) - found).abs().max() < 1e-9
    assert any("@" in calls for _, calls in made)


def test_a_plain_image_is_that_of_a_worker_without_a_bank(generator: Generator, plain: Generator) -> None:
    """At the same places, whatever LoRAs were beside it."""
    made = beside(generator, JOBS)
    for seed in (0, 6):
        found, calls = made[seed]
        without = " ".join(run.partition("@")[0] for run in calls.split())
        assert torch.equal(latents(plain, seed, Ticket(script=Script(without)), **JOBS[seed]), found)


def test_the_shared_weights_stay_as_they_are(generator: Generator) -> None:
    modules = {name: generator.model.components[name] for name in generator.model.slots}
    before = {
        name: {key: value.clone() for key, value in module.state_dict().items()} for name, module in modules.items()
    }
    beside(generator, JOBS)
    for name, module in modules.items():
        after = module.state_dict()
        assert after.keys() == before[name].keys()
        assert all(torch.equal(value, before[name][key]) for key, value in after.items())
    assert all(slot.layer.delta is None for slots in generator.model.slots.values() for slot in slots)


def test_images_wait_while_the_bank_is_full(plain: Generator, folder: Path) -> None:
    """More LoRAs are in flight than the bank has room for: nobody's is written over."""
    small = stocked(plain.model, plain.engine, folder, pages=3)
    assert small.adapters
    jobs: list[dict[str, Any]] = [{"loras": [name]} for name in LORAS] * 2
    made = beside(small, jobs)
    roomy = stocked(plain.model, plain.engine, folder)
    for seed, (job, (found, calls)) in enumerate(zip(jobs, made, strict=True)):
        assert torch.equal(latents(roomy, seed, Ticket(script=Script(calls)), **job), found)
    stats = small.adapters.stats()
    assert stats.loads >= len(LORAS)
    assert stats.evictions >= 1  # as many as the order asks for in which they come
    assert stats.waits


def test_an_image_that_waits_for_room_hears_that_it_is_not_wanted(plain: Generator, folder: Path) -> None:
    small = stocked(plain.model, plain.engine, folder, pages=3)
    assert small.adapters
    wide, attention = (small.adapters.library.use(name, 1.0) for name in ("wide", "attention"))

    class Unwanted(Exception):
        pass

    def unwanted() -> None:
        raise Unwanted

    with small.adapters.held({"a": [wide]}, lambda: None):
        with pytest.raises(Unwanted), small.adapters.held({"a": [attention]}, unwanted):
            pass
        assert small.adapters.stats().lying.keys() == {wide.sha256}
    with small.adapters.held({"a": [attention]}, lambda: None):
        pass


def test_the_same_picture_whatever_pages_its_loras_lie_on(plain: Generator, folder: Path) -> None:
    found = []
    for first in ("attention", "told", "convolution"):
        generator = stocked(plain.model, plain.engine, folder)
        latents(generator, loras=[first])
        found.append(latents(generator, loras=["wide:0.5", "attention"]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_prompts_are_encoded_for_each_set_of_loras(generator: Generator) -> None:
    def embeds(*loras: str) -> torch.Tensor:
        asked = ask(generator, loras=list(loras))
        return generator.prepare(asked).conditioning["prompt_embeds"]

    plain, told = embeds(), embeds("told")
    assert not torch.equal(plain, told)
    assert torch.equal(embeds("attention"), plain)
    assert torch.equal(embeds("attention:0.5", "told"), told)
    assert not torch.equal(embeds("told:0.5"), told)


def test_pictures_of_loras_differ(generator: Generator) -> None:
    def picture(**fields: Any) -> Image.Image:
        return make(generator, 1, **fields)

    assert not same(picture(), picture(loras=["attention"]))
