"""The second pass: its size, its steps, its noise, and what of it is recorded."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops, ImageStat
from safetensors.torch import load

from darkroom.tasks.catalogue import Family
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.pictures import parameters_text
from tests.unit.worker.conftest import DIFFUSION, FAMILIES, Generators, Models, ask, ignore, make, photo, same

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),  # torchsde, of its own rounding
]

HIRES = {"scale": 1.5, "strength": 0.5, "steps": 4}


def progress(generator: Generator, source: Image.Image | None = None, **fields: Any) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    make(generator, 1, source, on_step=lambda step, of, _: seen.append((step, of)), **fields)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_the_picture_is_larger_and_follows_from_the_seed(generators: Generators, family: Family) -> None:
    generator = generators(family)
    one, again, other = (make(generator, seed, hires=HIRES) for seed in (1, 1, 2))
    assert one.size == (48, 48)
    assert same(one, again) and not same(one, other)


def test_each_wish_for_the_second_pass_changes_the_picture(generators: Generators) -> None:
    sd = generators("sd")
    plain = make(sd, hires=HIRES)
    for change in ({"strength": 0.8}, {"steps": 6}, {"scale": 2.0}):
        assert not same(make(sd, hires={**HIRES, **change}), plain)


def test_width_and_height_are_the_first_pass_and_the_result_is_on_the_grid(generators: Generators) -> None:
    assert make(generators("sd"), width=40, height=64, hires={"scale": 1.3}).size == (48, 80)


@pytest.mark.parametrize("strength", [0.0, 0.2])
def test_where_no_step_is_left_the_larger_picture_goes_through_the_vae(generators: Generators, strength: float) -> None:
    """As in an img2img of it, but for what the scale of the latents rounds."""
    sd, hires = generators("sd"), {"scale": 1.5, "strength": strength}
    larger = make(sd).resize((48, 48), Image.Resampling.LANCZOS)
    through = make(sd, 1, larger, strength=0.0)
    apart = ImageChops.difference(make(sd, hires=hires), through)
    assert max(most for _, most in apart.getextrema()) <= 1
    assert progress(sd, scheduler="ddim", hires=hires) == [(1, 3), (2, 3), (3, 3)]


def test_at_full_strength_the_first_picture_has_no_say_but_in_the_noise(generators: Generators) -> None:
    sd, full = generators("sd"), {**HIRES, "strength": 1.0}
    one, other = (make(sd, hires=full, guidance_scale=5.0, num_inference_steps=steps) for steps in (1, 3))
    assert same(one, other)
    assert one.size == (48, 48)


def test_the_noise_of_the_second_pass_goes_on_where_that_of_the_first_ended(generators: Generators) -> None:
    sd = generators("sd")
    noise = torch.Generator("cpu").manual_seed(1)
    torch.randn(1, 4, 4, 4, generator=noise)  # the first pass's
    prepared = sd.prepare(ask(sd, hires={**HIRES, "strength": 1.0}, scheduler="ddim"))
    given: list[torch.Tensor] = []
    ticket = Ticket(solo=True, on_call=lambda call: given.append(call.tree[0][0][:1].clone()))
    sd.generate(prepared, 1, {}, ignore, ticket)
    second = [latents for latents in given if latents.shape[-1] == 6]
    assert torch.equal(second[0], torch.randn(1, 4, 6, 6, generator=noise))


@pytest.mark.parametrize("scheduler", DIFFUSION)
def test_progress_counts_the_steps_of_both_passes_as_one_scale(generators: Generators, scheduler: str) -> None:
    seen = progress(generators("sd"), scheduler=scheduler, hires={**HIRES, "strength": 0.75})
    assert {step for step, _ in seen} == {1, 2, 3, 4, 5, 6}
    assert seen == sorted(seen) and {of for _, of in seen} == {6}


def test_progress_of_img2img_counts_what_both_strengths_leave(generators: Generators) -> None:
    seen = progress(generators("sdxl"), photo(), strength=0.5, num_inference_steps=5, hires=HIRES)
    assert seen == [(step, 4) for step in (1, 2, 3, 4)]


def test_the_latents_of_both_passes_are_shown(generators: Generators) -> None:
    sdxl, shown = generators("sdxl"), []
    make(
        sdxl, on_step=lambda _step, _of, latents: shown.append((latents.shape[-1], sdxl.preview(latents))), hires=HIRES
    )
    assert [side for side, _ in shown] == [4, 4, 4, 6, 6]
    assert all(jpeg.startswith(b"\xff\xd8") for _, jpeg in shown)


@pytest.mark.parametrize("strength", [0.0, 0.5])
@pytest.mark.parametrize("family", FAMILIES)
def test_latents_are_scaled_without_a_decode_in_between(
    generators: Generators, family: Family, strength: float
) -> None:
    generator, decoded, given = generators(family), list[tuple[int, ...]](), list[torch.Tensor]()
    hook = generator.model.components["vae"].decoder.register_forward_pre_hook(
        lambda _module, latents: decoded.append(tuple(latents[0].shape))
    )
    wish = {"scale": 1.5, "upscale": "latent", "strength": strength}
    try:
        picture = make(generator, on_step=lambda _step, _of, latents: given.append(latents), hires=wish)
    finally:
        hook.remove()
    assert picture.size == (48, 48)
    assert decoded == [(1, 4, 6, 6)]
    if not strength:
        first = given[-1]
        larger = torch.nn.functional.interpolate(first, (6, 6), mode="bilinear")
        assert same(picture, generator.autoencoder.picture(larger))


def test_the_second_pass_is_what_an_img2img_of_the_scaled_latents_is(generators: Generators) -> None:
    """At one step less of noise it begins with them: the closer to none, the closer to what was scaled."""
    generator = generators("sdxl")
    wish = {"scale": 1.5, "upscale": "latent"}
    wishes = [{**wish, "strength": 0.0}, *({**wish, "steps": 50, "strength": strength} for strength in (0.04, 0.9))]
    none, little, much = (make(generator, scheduler="ddim", hires=wish) for wish in wishes)
    near, far = (sum(ImageStat.Stat(ImageChops.difference(none, other)).mean) for other in (little, much))
    assert 0 < near < far / 2


@pytest.mark.parametrize("scheduler", DIFFUSION)
def test_every_scheduler_goes_on_with_latents(generators: Generators, scheduler: str) -> None:
    assert make(generators("sd"), scheduler=scheduler, hires={**HIRES, "upscale": "latent"}).size == (48, 48)


def test_the_latents_that_are_kept_are_those_of_the_result(generators: Generators) -> None:
    generator = generators("sd")
    prepared = generator.prepare(ask(generator, output=["latents"], hires=HIRES))
    (file,) = generator.generate(prepared, 1, {}, ignore).files
    assert load(file.data)["latents"].shape == (1, 4, 6, 6)


class Enough(Exception):
    """Ends an image."""


@pytest.mark.parametrize("last", [2, 3, 4])
def test_an_image_can_be_ended_in_either_pass_and_between(models: Models, engine: Engine, last: int) -> None:
    generator = Generator(models("sd"), engine)

    def on_step(step: int, _of: int, _latents: torch.Tensor) -> None:
        if step == last:
            raise Enough

    with pytest.raises(Enough):
        make(generator, on_step=on_step, hires=HIRES)
    stats = engine.stats()
    assert (stats.stepping, stats.waiting) == (0, 0)
    assert same(make(generator), make(generator))


def test_without_a_size_the_source_is_fitted_so_that_the_result_is_within_the_limits(generators: Generators) -> None:
    sd = generators("sd")
    assert make(sd, 1, photo(0, 600, 300), num_inference_steps=1, hires={"scale": 4.0}).size == (512, 256)
    assert make(sd, 1, photo(0, 40, 40), num_inference_steps=1, hires={"scale": 4.0}).size == (160, 160)


def test_nobody_waits_for_an_image_between_its_passes(generators: Generators, engine: Engine) -> None:
    """It leaves the group of its first size after the last call there, and comes back in another."""
    sd, stepping = generators("sd"), []
    vae = sd.model.components["vae"]
    hooks = [
        part.register_forward_hook(lambda *_: stepping.append(engine.stats().stepping))
        for part in (vae.encoder, vae.decoder)
    ]
    try:
        make(sd, ticket=Ticket(), hires=HIRES)
    finally:
        [hook.remove() for hook in hooks]
    assert stepping == [0, 0, 0]


@pytest.mark.parametrize(("family", "upscale"), [("sd", "lanczos"), ("sdxl", "latent"), ("playground", "latent")])
def test_the_places_of_both_passes_are_recorded_and_repeated(
    generators: Generators, family: Family, upscale: str
) -> None:
    generator, seeds, hires = generators(family), range(8), {**HIRES, "upscale": upscale}

    def one(seed: int) -> tuple[Image.Image, str]:
        source = photo(seed) if seed % 2 else None
        ticket = Ticket()
        return make(generator, seed, source, ticket=ticket, hires=hires), str(ticket.placements)

    with ThreadPoolExecutor(len(seeds)) as pool:
        made = list(pool.map(one, seeds))
    assert any("2:0" not in places.split() for _, places in made)  # not all alone
    for seed, (picture, places) in zip(seeds, made, strict=True):
        ticket = Ticket(script=Script(places))
        again = make(generator, seed, photo(seed) if seed % 2 else None, ticket=ticket, hires=hires)
        assert same(again, picture) and str(ticket.placements) == places


def test_a_file_tells_of_it_as_others_read_it(generators: Generators) -> None:
    sd = generators("sd")
    prepared = sd.prepare(ask(sd, hires=HIRES))
    text = parameters_text(prepared.asked, 7, (48, 48), "tiny", prepared.kind.facts(prepared))
    assert text.splitlines()[-1].startswith(
        "Steps: 3, Sampler: PNDM, CFG scale: 5, Seed: 7, Size: 32x32, Model: tiny, Denoising strength: 0.5, "
        "Hires upscale: 1.5, Hires steps: 4, Hires upscaler: Lanczos, Version: Darkroom"
    )
    prepared = sd.prepare(ask(sd, image="inputs/default/it.png", strength=0.7, hires=HIRES))
    text = parameters_text(prepared.asked, 7, (48, 48), "tiny", prepared.kind.facts(prepared))
    assert "Size: 48x48, Model: tiny, Denoising strength: 0.7, Hires scale: 1.5," in text
    assert "Hires strength: 0.5" in text
