"""Inpainting over tiny models: what stays, what is made anew, and which inputs are refused."""

import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image, ImageOps
from safetensors.torch import load

from darkroom.storage.errors import InputBomb, InputCorrupt, InputError, MaskEmpty, MaskUnfit
from darkroom.tasks.catalogue import Family
from darkroom.tasks.errors import InvalidRequest
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.batching.stacking import Call
from darkroom.worker.images.pictures import parameters_text
from darkroom.worker.kinds.canvas import Canvas, levelled
from tests.unit.worker.batching.holding import held
from tests.unit.worker.conftest import FAMILIES, Generators, ask, make, photo, same
from tests.unit.worker.kinds.painting import assert_kept, file_of, numbers, paint, prepared, spot


def canvas(generators: Generators, picture: Any, mask: Any, **fields: Any) -> Canvas:
    found = prepared(generators("sd"), picture, mask, **fields)[1]["canvas"]
    assert isinstance(found, Canvas)
    return found


# what stays


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fields", [{}, {"padding": 5, "work_size": [64, 48]}], ids=["whole", "part"])
def test_outside_of_the_feathered_mask_every_bit_stays(
    generators: Generators, family: Family, fields: dict[str, Any]
) -> None:
    generator = generators(family)
    for size in ((61, 47), (64, 33), (33, 90)):
        picture = Image.effect_noise(size, 90).convert("RGB")
        job, sources = prepared(generator, picture, spot(size), mask_blur=3, **fields)
        made = generator.generate(job, 5, sources, lambda *_: None, Ticket(solo=True)).picture
        kept = numbers(sources["canvas"].mask) == 0
        assert made.size == size and 0.3 < kept.mean() < 0.95
        assert (numbers(made)[kept] == numbers(picture)[kept]).all()
        assert (numbers(made)[~kept] != numbers(picture)[~kept]).mean() > 0.5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_what_the_model_keeps_is_the_picture(generators: Generators, family: Family, strength: float) -> None:
    """Not its colours shifted: outside of the mask latents end as those of the picture, by the family's own measure."""
    assert_kept(generators(family), family, strength)


def test_an_asked_for_size_is_the_results_and_the_mask_follows(generators: Generators) -> None:
    picture, mask = photo(2, 100, 60), spot((100, 60), 60, 0, 100, 60)
    job, sources = prepared(generators("sd"), picture, mask, width=48, height=48, mask_blur=0)
    laid = sources["canvas"]
    assert same(laid.picture, ImageOps.fit(picture, (48, 48), Image.Resampling.LANCZOS))
    assert laid.mask.getbbox() == (32, 0, 48, 48)
    made = generators("sd").generate(job, 1, sources, lambda *_: None).picture
    assert made.size == (48, 48) and same(made.crop((0, 0, 32, 48)), laid.picture.crop((0, 0, 32, 48)))


def test_a_picture_over_the_models_limits_keeps_its_size(generators: Generators) -> None:
    picture = photo(2, 1201, 777)
    made = paint(generators("sd"), picture, spot((1201, 777), 10, 10, 300, 300), num_inference_steps=1)
    assert made.size == (1201, 777) and same(made.crop((400, 400, 1201, 777)), picture.crop((400, 400, 1201, 777)))


def test_without_a_step_what_is_masked_goes_through_the_vae(generators: Generators) -> None:
    picture, mask = photo(2, 64, 48), spot((64, 48), 8, 8, 24, 24)
    made = paint(generators("sd"), picture, mask, strength=0.0, mask_blur=0)
    through = make(generators("sd"), 1, picture, width=64, height=48, strength=0.0)
    assert same(made, Image.composite(levelled(through, picture, mask), picture, mask))


def test_full_strength_forgets_what_was_there_and_less_does_not(generators: Generators) -> None:
    one, other = photo(1, 64, 64), photo(1, 64, 64)
    other.paste("white", (24, 24, 40, 40))
    apart = []
    for strength in (0.3, 1.0):
        made = [
            paint(generators("sd"), one_of, spot((64, 64), 16, 16, 48, 48), strength=strength)
            for one_of in (one, other)
        ]
        apart.append(abs(numbers(made[0]) - numbers(made[1]))[28:36, 28:36].mean())
    assert apart[1] < apart[0] / 2, apart


# extensions


def test_new_ground_is_made_at_each_side_and_the_picture_stays(generators: Generators) -> None:
    picture = Image.effect_noise((45, 37), 90).convert("RGB")
    sides = {"left": 9, "top": 3, "right": 16, "bottom": 1}
    made = paint(generators("sdxl"), picture, None, extend=sides, mask_blur=0)
    assert made.size == (45 + 25, 37 + 4)
    assert same(made.crop((9, 3, 54, 40)), picture)
    laid = canvas(generators, picture, None, extend=sides, mask_blur=4)
    assert (numbers(laid.mask)[40 - 1, 20:40] < 255).all() and laid.mask.getpixel((8, 20)) == 255
    assert laid.picture.getpixel((0, 20)) == picture.getpixel((0, 17))  # its edge goes on


def test_a_mask_and_new_ground_together(generators: Generators) -> None:
    laid = canvas(generators, photo(1, 64, 64), spot((64, 64), 8, 8, 16, 16), extend={"left": 8}, mask_blur=0)
    wanted = spot((72, 64), 16, 8, 24, 16)
    wanted.paste(255, (0, 0, 8, 64))
    assert same(laid.mask, wanted)


def test_an_empty_mask_is_none_where_there_is_new_ground(generators: Generators) -> None:
    assert canvas(generators, photo(1, 64, 64), Image.new("L", (64, 64)), extend={"top": 8}).mask.getbbox()


def test_of_a_given_size_the_picture_gets_what_the_extension_leaves(generators: Generators) -> None:
    laid = canvas(generators, photo(1, 64, 64), None, extend={"left": 24, "bottom": 8}, width=64, height=64)
    assert laid.picture.size == (64, 64)
    assert same(laid.picture.crop((24, 0, 64, 56)), ImageOps.fit(photo(1, 64, 64), (40, 56), Image.Resampling.LANCZOS))


def test_a_picture_larger_than_the_model_makes_gets_new_ground_too(generators: Generators) -> None:
    picture = photo(1, 500, 64)
    laid = canvas(generators, picture, None, extend={"left": 24}, mask_blur=0)
    assert laid.picture.size == (524, 64) and max(laid.source.size) <= 512
    finished = laid.finished(Image.new("RGB", laid.source.size, "red"))
    assert same(finished.crop((24, 0, 524, 64)), picture) and not same(
        finished.crop((0, 0, 24, 64)), laid.picture.crop((0, 0, 24, 64))
    )


def test_a_result_that_its_format_does_not_hold_is_refused(generators: Generators) -> None:
    picture = Image.new("RGB", (16_384, 8))
    with pytest.raises(InvalidRequest, match="webp holds at most"):
        canvas(generators, picture, spot(picture.size), output_format="webp")
    assert canvas(generators, picture, spot(picture.size)).picture.width == 16_384


@pytest.mark.parametrize("fields", [{}, {"padding": 16, "work_size": [64, 48]}, {"output_format": "jpeg"}])
def test_a_result_that_no_record_holds_is_refused(generators: Generators, fields: dict[str, Any]) -> None:
    for size in ((16_385, 8), (8, 16_385)):
        with pytest.raises(InvalidRequest, match="16384 a side are the most") as caught:
            canvas(generators, Image.new("RGB", size), spot(size, 0, 0, 8, 8), **fields)
        assert [(fault.field, fault.code) for fault in caught.value.faults] == [("image", "too_large")]
    laid = canvas(generators, Image.new("RGB", (16_385, 8)), Image.new("L", (16_385, 8), 255), width=64, height=64)
    assert laid.picture.size == (64, 64)


PART = {"padding": 0, "work_size": [64, 64]}


@pytest.mark.parametrize(
    ("size", "fields"),
    [((30_000, 1), {"preserve_unmasked": False}), ((1, 16_000), PART), ((8000, 8), PART)],
)
def test_what_would_be_drawn_out_beyond_all_pictures_is_refused(
    generators: Generators, size: tuple[int, int], fields: dict[str, Any]
) -> None:
    """A file of some hundred bytes would take gigabytes."""
    with pytest.raises(InvalidRequest, match="it would be drawn out to") as caught:
        canvas(generators, Image.new("RGB", size), Image.new("L", size, 255), **fields)
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [("image", "too_large")]


# masks


def test_a_mask_of_another_size_is_scaled_where_its_proportions_are_the_pictures(generators: Generators) -> None:
    picture = photo(1, 100, 67)
    for size in ((50, 33), (50, 34), (200, 134), (300, 201)):
        x = size[0] // 2
        laid = canvas(generators, picture, spot(size, 0, 0, x, size[1]), mask_blur=0)
        assert laid.mask.getbbox() == (0, 0, 50, 67), size
    for size in ((67, 100), (50, 50), (100, 60), (200, 130)):
        with pytest.raises(MaskUnfit, match=f"{size[0]}x{size[1]} pixels, .* 100x67"):
            canvas(generators, picture, spot(size))


@pytest.mark.parametrize(
    ("mask", "channel", "said"),
    [
        (Image.new("L", (64, 64)), "auto", "white"),
        (Image.new("L", (64, 64), 127), "auto", "white"),
        (Image.new("RGBA", (64, 64), "black"), "auto", "white"),
        (Image.new("RGB", (64, 64), "white"), "alpha", "transparent"),
        (Image.new("RGBA", (64, 64), (255, 255, 255, 0)), "luminance", "white"),
    ],
)
def test_a_mask_that_marks_nothing(generators: Generators, mask: Image.Image, channel: str, said: str) -> None:
    with pytest.raises(MaskEmpty) as caught:
        canvas(generators, photo(1, 64, 64), mask, mask_channel=channel)
    assert said in caught.value.hint


def test_grey_is_decided_at_the_half(generators: Generators) -> None:
    mask = Image.linear_gradient("L").resize((64, 256)).rotate(90, expand=True)
    laid = canvas(generators, photo(1, 256, 64), mask, mask_blur=0)
    assert set(laid.mask.tobytes()) == {0, 255}
    box = laid.mask.getbbox()
    assert box and 126 <= box[2] - box[0] <= 130


def test_a_full_mask_makes_all_anew(generators: Generators) -> None:
    full = Image.new("L", (64, 48), 255)
    one, other = (paint(generators("sd"), photo(seed, 64, 48), full) for seed in (1, 2))
    assert not same(one, photo(1, 64, 48)) and abs(numbers(one) - numbers(other)).mean() < 2


def test_the_picture_may_be_its_own_mask(generators: Generators) -> None:
    picture = photo(1, 64, 64).convert("RGBA")
    picture.paste((0, 0, 0, 0), (8, 8, 24, 24))
    laid = canvas(generators, picture, picture, mask_blur=0)
    assert laid.mask.getbbox() == (8, 8, 24, 24) and laid.picture.getpixel((9, 9)) == (255, 255, 255)


def test_a_jpegs_noise_is_no_mask(generators: Generators) -> None:
    mask = file_of(spot((64, 64), 16, 16, 48, 48), "JPEG", quality=20)
    assert canvas(generators, photo(1, 64, 64), mask, mask_blur=0).mask.getbbox() == (16, 16, 48, 48)


@pytest.mark.parametrize("name", ["image", "mask"])
@pytest.mark.parametrize(
    ("data", "error"),
    [(file_of(photo())[:60], InputCorrupt), (file_of(Image.new("L", (7000, 7000))), InputBomb)],
    ids=["cut", "bomb"],
)
def test_an_input_that_cannot_be_read_is_named(
    generators: Generators, name: str, data: bytes, error: type[InputError]
) -> None:
    files: dict[str, Any] = {"image": photo(1, 64, 64), "mask": spot((64, 64)), name: data}
    with pytest.raises(error, match=f"^{name}: "):
        canvas(generators, files["image"], files["mask"])


# beside others


@pytest.mark.parametrize("family", FAMILIES)
def test_its_denoiser_calls_are_stacked_with_those_of_other_kinds(
    generators: Generators, engine: Engine, family: Family
) -> None:
    """A txt2img, an img2img and an inpainting: their calls are of one group, and wait for each other in one call."""
    generator, picture, mask = generators(family), photo(1, 64, 64), spot((64, 64))
    calls, arrived, go = list[Call](), threading.Semaphore(0), threading.Event()

    def first(call: Call) -> None:
        if not go.is_set():
            calls.append(call)
            arrived.release()
            go.wait()

    tickets = [Ticket(on_call=first) for _ in range(3)]
    wishes: list[Callable[[Ticket], Image.Image]] = [
        lambda ticket: make(generator, 1, width=64, height=64, ticket=ticket),
        lambda ticket: make(generator, 2, picture, strength=0.9, num_inference_steps=5, ticket=ticket),
        lambda ticket: paint(generator, picture, mask, 3, ticket=ticket),
    ]
    with ThreadPoolExecutor(3) as pool:
        made = [pool.submit(wish, ticket) for wish, ticket in zip(wishes, tickets, strict=True)]
        for _ in made:
            arrived.acquire()
        with held(engine):
            before = engine.stats().waiting
            go.set()
            while engine.stats().waiting < before + 3:
                pass
        for one in made:
            one.result()
    assert len({call.group for call in calls}) == 1 and calls[0].group is not None
    places = [re.match(r"(?:\d+x)?(\d+:\d+)", str(ticket.placements)) for ticket in tickets]
    assert sorted(place[1] for place in places if place) == ["8:0", "8:2", "8:4"]


def test_of_a_loaded_engine_it_comes_out_again_at_its_places(generators: Generators, engine: Engine) -> None:
    """As a replay puts them: beside others and in jobs of several pictures, then alone."""
    picture, mask, loaded = photo(1, 61, 47), spot((61, 47)), {family: generators(family) for family in FAMILIES}
    jobs = [(family, seed) for seed in range(4) for family in FAMILIES]
    tickets = [Ticket() for _ in jobs]

    def run(number: int, ticket: Ticket) -> Image.Image:
        family, seed = jobs[number]
        if seed == 3:
            return make(loaded[family], seed, picture, strength=0.8, width=64, height=48, ticket=ticket)
        part = {"padding": 2, "work_size": [64, 48]} if seed == 2 else {}
        return paint(loaded[family], picture, mask, seed, num_inference_steps=3 + seed, ticket=ticket, **part)

    before = Counter(engine.stats().model_calls)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(run, range(len(jobs)), tickets))
    assert sum(count for bucket, count in (Counter(engine.stats().model_calls) - before).items() if bucket > 2)
    for number, (image, ticket) in enumerate(zip(made, tickets, strict=True)):
        again = Ticket(script=Script(str(ticket.placements)))
        assert same(run(number, again), image) and str(again.placements) == str(ticket.placements)


def test_alone_it_has_the_same_bits_whenever(generators: Generators) -> None:
    for family, scheduler in (("sd", "euler_a"), ("sdxl", "dpmpp_sde"), ("playground", "edm_euler")):
        one, other = (
            paint(generators(family), photo(1, 61, 47), spot((61, 47)), 7, scheduler=scheduler)  # type: ignore[arg-type]
            for _ in range(2)
        )
        assert same(one, other)


class Stop(Exception):
    """A caller's way out."""


@pytest.mark.parametrize("family", FAMILIES)
def test_it_counts_its_steps_and_can_be_left_at_any(generators: Generators, family: Family) -> None:
    generator, seen = generators(family), list[tuple[int, int]]()
    before = paint(generator, photo(), spot((32, 32)), strength=0.5, num_inference_steps=6,
                   on_step=lambda step, of, latents: seen.append((step, of)) or None)  # fmt: skip
    assert seen == sorted(seen) and set(seen) == {(1, 3), (2, 3), (3, 3)}  # PNDM calls the denoiser once more

    def stop(step: int, *_: Any) -> None:
        if step == 2:
            raise Stop

    with pytest.raises(Stop):
        paint(generator, photo(), spot((32, 32)), strength=0.5, num_inference_steps=6, on_step=stop)
    assert same(paint(generator, photo(), spot((32, 32)), strength=0.5, num_inference_steps=6), before)


def test_the_file_says_what_it_was_made_with(generators: Generators) -> None:
    job, _ = prepared(generators("sd"), photo(), spot((32, 32)), padding=4, strength=0.25)
    text = parameters_text(job.asked, 1, (32, 32), "tiny", job.kind.facts(job))
    assert "Denoising strength: 0.25, Mask blur: 8, Masked area padding: 4" in text


def test_another_kinds_request_needs_no_mask(generators: Generators) -> None:
    assert ask(generators("sd"), kind="inpaint", image="inputs/default/a.png", extend={"left": 8}).references == {
        "image": "inputs/default/a.png"
    }


def test_its_latents_are_those_of_what_the_model_worked_at(generators: Generators) -> None:
    generator, both = generators("sd"), {"output": ["image", "latents"]}
    for fields, shape in (({}, (1, 4, 6, 8)), ({"padding": 2, "work_size": [32, 40]}, (1, 4, 5, 4))):
        for strength in (1.0, 0.0):
            wished = {**fields, "strength": strength}
            job, sources = prepared(generator, photo(1, 61, 47), spot((61, 47)), **wished, **both)
            made = generator.generate(job, 1, sources, lambda *_: None, Ticket(solo=True))
            assert load(made.files[0].data)["latents"].shape == shape
            assert same(made.picture, paint(generator, photo(1, 61, 47), spot((61, 47)), **wished))
