"""Styles by row: what an image gets of its style, alone and beside others, with LoRAs and without."""

import copy
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from darkroom.tasks.catalogue import Family
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.batching.proxies import NotFinite
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.warm import warm
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.styles import in_processors
from tests.together import together
from tests.unit.worker.adapters.stocked import stocked
from tests.unit.worker.conftest import ask, photo

STYLE = {"kind": "stylize", "styles": ["inputs/default/0-0000000000000000.png"]}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


@pytest.fixture(scope="module", params=["sdxl", "sd"])
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def generator(
    tiny_models: TinyModels, engine: Engine, tmp_path_factory: pytest.TempPathFactory, family: Family
) -> Generator:
    """With a style adapter and LoRAs, in float64."""
    placement = Placement(torch.device("cpu"), torch.float64, "full", 1)
    model, folder = load_model(tiny_models(family), placement, WorkerSettings()), tmp_path_factory.mktemp("style")
    return stocked(model, engine, folder, styles=in_processors(model, folder, engine))


@pytest.fixture(scope="module")
def plain(tiny_models: TinyModels, engine: Engine, family: Family) -> Generator:
    placement = Placement(torch.device("cpu"), torch.float64, "full", 1)
    return Generator(load_model(tiny_models(family), placement, WorkerSettings()), engine)


def latents(
    generator: Generator, seed: int = 1, ticket: Ticket | None = None, pictures: int = 1, **fields: Any
) -> torch.Tensor:
    """The last ones of an image; of a stylize job in the style of so many pictures."""
    kept: list[torch.Tensor] = []
    prepared = generator.prepare(ask(generator, **fields))
    sources: dict[str, Image.Image] = {
        place: photo() if place == "image" else photo(9 - number)
        for number, place in enumerate(prepared.request.references)
    }
    generator.generate(prepared, seed, sources, lambda *it: kept.append(it[2].clone()), ticket or Ticket(solo=True))
    return kept[-1]


def test_a_style_changes_the_picture_and_no_style_does_not(generator: Generator, plain: Generator) -> None:
    assert torch.equal(latents(plain), latents(generator))
    styled = latents(generator, **STYLE)
    assert (styled - latents(plain)).abs().max() > 0.01
    other = latents(generator, **STYLE, layout_scale=1.0)
    assert (styled - other).abs().max() > 0.01


def test_guidance_leads_away_from_a_picture_of_nothing(generator: Generator) -> None:
    """Without guidance there is one row, the styled one; a scale of 0 is the plain picture."""
    alone = {"guidance_scale": 1.0, "negative_prompt": None}
    assert (latents(generator, **STYLE, **alone) - latents(generator, **alone)).abs().max() > 0.01
    tiny = {**STYLE, "style_scale": 1e-300}
    assert (latents(generator, **tiny) - latents(generator)).abs().max() < 1e-12


def test_pictures_have_their_weights(generator: Generator) -> None:
    first, second = "inputs/default/0-0000000000000000.png", "inputs/default/1-0000000000000000.png"
    both = {"kind": "stylize", "styles": [first, f"{second}:3"]}
    even = {"kind": "stylize", "styles": [first, second]}
    assert (latents(generator, **both) - latents(generator, **even)).abs().max() > 1e-6
    doubled = {"kind": "stylize", "styles": [f"{first}:2", f"{second}:6"]}
    assert (latents(generator, **both) - latents(generator, **doubled)).abs().max() < 1e-9


JOBS: list[dict[str, Any]] = [
    {},
    STYLE,
    {**STYLE, "loras": ["attention:0.5"]},
    {"loras": ["wide:0.25"]},
    {**STYLE, "style_scale": 0.5, "layout_scale": 1.5, "guidance_scale": 1.0},
    {**STYLE, "image": "inputs/default/0-0000000000000000.png", "strength": 0.7, "num_inference_steps": 4},
    {"scheduler": "ddim"},
    {**STYLE, "hires": {"scale": 2.0, "strength": 0.6}},
]


def test_unlike_images_share_calls_and_come_out_as_alone(generator: Generator, plain: Generator) -> None:
    each, before = together(len(JOBS)), generator.engine.stats()
    tickets = [Ticket(on_call=each()) for _ in JOBS]
    with ThreadPoolExecutor(len(JOBS)) as pool:
        numbered = zip(range(9), JOBS, tickets, strict=False)
        made = list(pool.map(lambda it: latents(generator, it[0], it[2], **it[1]), numbered))
    after = generator.engine.stats()
    assert sum(after.model_calls.values()) - sum(before.model_calls.values()) < after.calls - before.calls
    for seed, (job, ticket, found) in enumerate(zip(JOBS, tickets, made, strict=True)):
        calls = str(ticket.placements)
        again = Ticket(script=Script(calls))
        assert torch.equal(latents(generator, seed, again, **job), found)
        assert str(again.placements) == calls
        assert (latents(generator, seed, **job) - found).abs().max() < 1e-9
        if "kind" not in job and "loras" not in job:
            bare = Ticket(script=Script(re.sub(r"@[0-9.]+", "", calls)))
            assert torch.equal(latents(plain, seed, bare, **job), found)


def test_a_plain_row_keeps_its_bits_beside_a_style(generator: Generator, plain: Generator) -> None:
    """Its call is one of those that compute styles."""
    alone = Ticket(solo=True)
    found = latents(plain, ticket=alone)
    beside = Script(re.sub(r"(:\d+)(?= |$)", r"\1@0.0.0.1", str(alone.placements)))
    ticket = Ticket(script=beside)
    assert torch.equal(latents(generator, ticket=ticket), found)
    assert "@0.0.0.1" in str(ticket.placements)


def test_alone_its_width_is_the_fourth_number(generator: Generator) -> None:
    ticket = Ticket(solo=True)
    latents(generator, ticket=ticket, **STYLE)
    assert str(ticket.placements).endswith("@0.0.0.1")


def test_it_is_tried_with_styles_and_offered(generator: Generator, plain: Generator) -> None:
    assert "stylize" in generator.entry.kinds
    assert "stylize" not in plain.entry.kinds
    warm(generator, 0.1)


def test_numbers_that_overflow_may_be_the_adapters(generator: Generator, engine: Engine) -> None:
    """Of a picture with some they are named; one without has the device's numbers or its weights at fault."""
    vae = copy.deepcopy(generator.model.components["vae"])
    vae.post_quant_conv.bias.data.fill_(torch.inf)
    model = replace(generator.model, components={**generator.model.components, "vae": vae})
    broken = Generator(model, engine, generator.adapters)
    with pytest.raises(NotFinite, match="in float64") as plainly:
        latents(broken)
    assert plainly.value.message.endswith("in float64")
    assert plainly.value.hint.startswith("start the worker with --dtype float32")
    said = "in float64, with LoRA wide at 10, LoRA told at 0.5, a style at style_scale 2, layout_scale 0"
    with pytest.raises(NotFinite, match=said) as caught:
        latents(broken, **STYLE, loras=["wide:10", "told:0.5"], style_scale=2.0)
    assert caught.value.hint.startswith("lower these scales, or leave out what they are of; if it fails without it")
    assert caught.value.code == "generation_failed"
