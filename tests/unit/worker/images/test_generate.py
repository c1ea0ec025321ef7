"""Ends of the ranges, steps, prompts, sizes."""

from collections.abc import Callable, Hashable
from typing import Any

import pytest
import torch
from PIL import Image

from darkroom.tasks.catalogue import Family
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.graphs import Graphs
from darkroom.worker.batching.stacking import Tree
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.pictures import encode
from darkroom.worker.images.warm import warm
from darkroom.worker.kinds.sources import prepare_source
from tests.unit.worker.conftest import DIFFUSION, FAMILIES, Generators, Models, ask, ignore, make, photo, same

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),  # torchsde, of its own rounding
]


def steps_of(generator: Generator, source: Image.Image | None = None, **fields: object) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    named = {"image": "inputs/default/it.png"} if source else {}
    prepared = generator.prepare(ask(generator, **named, **fields))
    generator.generate(prepared, 1, {"image": source} if source else {}, lambda step, of, _: found.append((step, of)))
    return found


# strength


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "pndm", "dpmpp_2m"])
def test_full_strength_starts_from_noise_alone(generators: Generators, scheduler: str) -> None:
    sd = generators("sd")
    one, other = (make(sd, 3, photo(seed), strength=1.0, scheduler=scheduler) for seed in (1, 2))
    assert same(one, other)
    assert same(one, make(sd, 3, scheduler=scheduler))


def test_below_full_strength_the_source_shows(generators: Generators) -> None:
    one, other = (make(generators("sdxl"), 3, photo(seed), strength=0.99) for seed in (1, 2))
    assert not same(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_step_the_source_goes_through_the_vae(generators: Generators, family: Family) -> None:
    generator, source = generators(family), photo(5, 50, 40)
    none, little, few = (
        make(generator, seed, source, width=32, height=32, strength=strength, num_inference_steps=steps)
        for seed, strength, steps in ((1, 0.0, 3), (2, 0.01, 3), (3, 0.9, 1))
    )
    assert same(none, little) and same(none, few)
    fitted = prepare_source(source, 32, 32, generator.model.entry.limits)
    vae = generator.model.components["vae"]
    processor = generator._encoding.image_processor
    with torch.no_grad():
        decoded = vae.decode(vae.encode(processor.preprocess(fitted)).latent_dist.mode()).sample
    assert same(none, processor.postprocess(decoded)[0])


def test_no_step_is_told_where_none_is_made(generators: Generators) -> None:
    assert steps_of(generators("sd"), photo(), strength=0.01) == []


# steps


@pytest.mark.parametrize("scheduler", DIFFUSION)
def test_progress_counts_the_steps_that_were_asked_for(generators: Generators, scheduler: str) -> None:
    """PNDM, and DPM++ SDE's two stages, call the denoiser more often than that."""
    for steps in (1, 2, 5):
        seen = steps_of(generators("sd"), scheduler=scheduler, num_inference_steps=steps)
        assert {step for step, _ in seen} == set(range(1, steps + 1))
        assert seen == sorted(seen) and {of for _, of in seen} == {steps}


def test_progress_of_img2img_counts_what_strength_leaves(generators: Generators) -> None:
    seen = steps_of(generators("sdxl"), photo(), strength=0.5, num_inference_steps=5)
    assert seen == [(1, 2), (2, 2)]


def test_the_latents_of_a_step_are_those_of_one_image(generators: Generators) -> None:
    shapes = set()
    generator = generators("sdxl")
    prepared = generator.prepare(ask(generator, width=64, height=32))
    generator.generate(prepared, 1, {}, lambda _step, _of, latents: shapes.add(tuple(latents.shape)))
    assert shapes == {(1, 4, 4, 8)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 30.0])
def test_every_guidance_is_legal(generators: Generators, family: Family, guidance: float) -> None:
    assert make(generators(family), guidance_scale=guidance).size == (32, 32)


def test_guidance_runs_the_denoiser_on_two_rows_and_its_absence_on_one(models: Models, engine: Engine) -> None:
    generator, rows = Generator(models("sdxl"), engine), []
    hook = (
        models("sdxl")
        .components["unet"]
        .conv_in.register_forward_hook(lambda _m, given, _o: rows.append(len(given[0])))
    )
    for guidance in (1.0, 1.5):
        make(generator, guidance_scale=guidance, num_inference_steps=1)
    hook.remove()
    assert rows == [1, 2]


# prompts


def test_no_negative_prompt_and_an_empty_one_differ_where_the_model_says_so(generators: Generators) -> None:
    for family, differ in (("sdxl", True), ("playground", True), ("sd", False)):
        none, empty = (make(generators(family), negative_prompt=text) for text in (None, ""))
        assert same(none, empty) is not differ


def test_without_guidance_the_negative_prompt_has_no_say(generators: Generators) -> None:
    one, other = (make(generators("sd"), guidance_scale=1.0, negative_prompt=text) for text in ("cats", None))
    assert same(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_that_is_not_read_to_its_end_is_told_of_exactly(generators: Generators, family: Family) -> None:
    generator = generators(family)
    tokenizer = generator.model.components["tokenizer"]
    word = next(w for w in ("a", "!", "x") if len(tokenizer(w, add_special_tokens=False).input_ids) == 1)
    fits, over = " ".join([word] * 75), " ".join([word] * 76)
    for fields, warnings in (
        ({"prompt": fits}, []),
        ({"prompt": over}, ["prompt_truncated"]),
        ({"negative_prompt": over}, ["prompt_truncated"]),
        ({"negative_prompt": over, "guidance_scale": 1.0}, []),
    ):
        assert generator.prepare(ask(generator, long_prompt="cut", **fields)).warnings == warnings
        assert generator.prepare(ask(generator, **fields)).warnings == []


# sizes and warming


@pytest.mark.parametrize(("size", "fields", "warnings"), [
    ((8, 2000), {}, ["source_cropped"]),
    ((8, 2000), {"width": 32, "height": 32}, []),  # as it was asked for
    ((47, 39), {}, []),
], ids=str)  # fmt: skip
def test_a_source_that_loses_its_ends_is_told_of(
    generators: Generators, size: tuple[int, int], fields: dict[str, int], warnings: list[str]
) -> None:
    generator = generators("sd")
    prepared = generator.prepare(ask(generator, kind="img2img", image="inputs/default/a.png", **fields))
    prepared.kind.read(prepared, {"image": encode(photo(1, *size), "png", "")[0]})
    assert prepared.warnings == warnings


def test_without_a_size_the_picture_keeps_its_own_on_the_grid(generators: Generators) -> None:
    generator = generators("sd")
    prepared = generator.prepare(ask(generator, image="inputs/default/it.png"))
    assert generator.generate(prepared, 1, {"image": photo(0, 77, 50)}, ignore).picture.size == (72, 48)
    full = generator.prepare(ask(generator, image="inputs/default/it.png", strength=1.0))
    assert generator.generate(full, 1, {"image": photo(0, 77, 50)}, ignore).picture.size == (72, 48)


@pytest.mark.parametrize("family", FAMILIES)
def test_warming_runs_every_kind_and_changes_nothing(models: Models, engine: Engine, family: Family) -> None:
    generator = Generator(models(family), engine)
    before = make(generator)
    warm(generator, most_seconds=0.1)
    assert same(make(generator), before)


def test_a_denoiser_whose_calls_are_replayed_is_warmed(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA graphs do: of each shape the module itself is called once, whatever kind of picture asks."""
    recorded: dict[Hashable, Any] = {}

    def run(_: Graphs, module: Callable[..., Any], tree: Tree, key: Hashable) -> Any:
        if key not in recorded:
            recorded[key] = module(*tree[0], **tree[1])
        return recorded[key]

    monkeypatch.setattr(Graphs, "run", run)
    with Engine(threads=1, graphs=True) as engine:
        for _ in range(2):
            warm(Generator(models("sdxl"), engine))
        assert {bucket for _, bucket, _ in recorded} >= {1, 2, 4, 8}


# embeddings


def test_a_prompt_is_encoded_once(generators: Generators) -> None:
    generator = generators("sdxl")
    cache = generator.embeddings
    first = generator.prepare(ask(generator, prompt="a heron", negative_prompt="fog"))
    hits, misses = cache.hits, cache.misses
    again = generator.prepare(ask(generator, prompt="a heron", negative_prompt="fog", width=64, seed=9))
    assert again.conditioning is first.conditioning and (cache.hits, cache.misses) == (hits + 1, misses)
    for other in ({"negative_prompt": ""}, {"negative_prompt": None}, {"guidance_scale": 1.0}):
        asked = {"prompt": "a heron", "negative_prompt": "fog", **other}
        assert generator.prepare(ask(generator, **asked)).conditioning is not first.conditioning
    hits = cache.hits
    generator.prepare(ask(generator, prompt="a heron", negative_prompt="cats", guidance_scale=1.0))
    assert cache.hits == hits + 1  # without guidance the negative prompt has no say


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_writes_to_kept_embeddings(generators: Generators, family: Family) -> None:
    generator = generators(family)
    for guidance in (1.0, 5.0):
        kept = generator.prepare(ask(generator, prompt="an owl", guidance_scale=guidance)).conditioning
        before = {name: tensor.clone() for name, tensor in kept.items()}
        for source in (None, photo()):
            make(generator, 1, source, prompt="an owl", guidance_scale=guidance)
        assert all(torch.equal(kept[name], tensor) for name, tensor in before.items())
