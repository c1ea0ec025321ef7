"""One image by two models: the halves are the whole, to the bit, and both are recorded."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load

from darkroom.storage.errors import InputUnfit
from darkroom.tasks.requests import Request
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.errors import ManifestInvalid
from darkroom.worker.images.differences import Difference
from darkroom.worker.images.manifest import ImageRecord, Manifest, make_manifest, parse_manifest
from darkroom.worker.images.pictures import encode, parameters_text
from darkroom.worker.images.replay import Replay
from darkroom.worker.images.steps import OnStep
from tests.unit.worker.conftest import ask, ignore, make, photo, same
from tests.unit.worker.kinds.conftest import Duo

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

#: Of one call a step, and of one step's memory: those that draw noise in each step, too.
SINGLE = ("euler", "ddim", "euler_a", "ddpm", "lcm")
MULTI = ("dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde", "unipc")
KEY = "inputs/default/it.png"


def wish(duo: Duo, **fields: Any) -> Request:
    """A resolved request for the first of them."""
    size = {} if "image" in fields else {"width": 32, "height": 32}
    asked = {"prompt": "a red fox", "seed": 1, "num_inference_steps": 5, "model": "tiny-sdxl", **size, **fields}
    kind = "img2img" if "image" in fields else "txt2img"
    return resolve({"kind": kind, **asked}, {name: one.entry for name, one in duo.items()}, lambda: None).filled


def made(duo: Duo, seed: int = 1, ticket: Ticket | None = None, on_step: OnStep = ignore, **fields: Any) -> Image.Image:
    base = next(iter(duo.values()))
    prepared = base.prepare(wish(duo, **fields), duo)
    sources = {"image": photo(3)} if "image" in fields else {}
    return base.generate(prepared, seed, sources, on_step, ticket or Ticket(solo=True)).picture


def by(model: str, start: float = 0.8) -> dict[str, object]:
    return {"model": model, "start": start}


@pytest.mark.parametrize("scheduler", SINGLE)
@pytest.mark.parametrize(("steps", "start"), [(1, 0.5), (2, 0.8), (5, 0.05), (5, 0.5), (5, 0.8), (9, 0.33), (5, 0.99)])
def test_two_halves_by_the_same_weights_are_the_whole_to_the_bit(
    duo: Duo, scheduler: str, steps: int, start: float
) -> None:
    asked = {"scheduler": scheduler, "num_inference_steps": steps}
    seen: list[tuple[int, int]] = []
    halves = made(duo, on_step=lambda step, of, _: seen.append((step, of)), refiner=by("twin", start), **asked)
    assert same(halves, make(duo["tiny-sdxl"], **asked))
    assert seen == [(step, steps) for step in range(1, steps + 1)]


@pytest.mark.parametrize("start", [0.5, 0.8])
def test_two_halves_of_img2img_are_the_whole(duo: Duo, start: float) -> None:
    asked = {"scheduler": "euler", "num_inference_steps": 10, "strength": 0.7}
    whole = make(duo["tiny-sdxl"], 1, photo(3), **asked)
    assert same(made(duo, image=KEY, refiner=by("twin", start), **asked), whole)


@pytest.mark.parametrize("scheduler", MULTI)
def test_schedulers_with_memory_begin_anew_after_the_cut(duo: Duo, scheduler: str) -> None:
    seen: list[tuple[int, int]] = []
    halves = made(duo, on_step=lambda *of: seen.append(of[:2]), scheduler=scheduler, refiner=by("twin", 0.5))
    assert halves.size == (32, 32)
    assert seen == [(step, 5) for step in range(1, 6)]


def test_the_refiner_has_its_say_and_reads_the_words(duo: Duo) -> None:
    plain = make(duo["tiny-sdxl"], num_inference_steps=5)
    refined, later, worded = (
        made(duo, refiner=by("tiny-sdxl-refiner", start), **more)
        for start, more in ((0.5, {}), (0.8, {}), (0.5, {"negative_prompt": "fog"}))
    )
    assert not any(same(one, other) for one, other in ((plain, refined), (refined, later), (refined, worded)))


def test_both_models_take_part_on_the_one_engine(duo: Duo, engine: Engine) -> None:
    calls: list[object] = []
    made(duo, ticket=Ticket(solo=True, on_call=lambda call: calls.append(call.module)), refiner=by("tiny-sdxl-refiner"))
    base, refiner = (duo[name].denoiser for name in ("tiny-sdxl", "tiny-sdxl-refiner"))
    assert calls == [base] * 4 + [refiner]
    assert engine.stats().stepping == 0


def test_a_refined_image_has_a_second_pass_by_either_model(duo: Duo) -> None:
    hires = {"scale": 1.5, "strength": 0.5, "steps": 4}
    seen: list[tuple[int, int]] = []
    own = made(duo, on_step=lambda *of: seen.append(of[:2]), refiner=by("tiny-sdxl-refiner"), hires=hires)
    other = made(duo, refiner=by("tiny-sdxl-refiner"), hires={**hires, "model": "tiny-sdxl-refiner"})
    assert own.size == other.size == (48, 48)
    assert seen == [(step, 7) for step in range(1, 8)]
    assert not same(own, other)
    twin = made(duo, hires={**hires, "model": "twin"})
    assert same(twin, made(duo, hires=hires))


@pytest.mark.parametrize("last", [4, 5])
def test_an_image_can_be_ended_on_both_sides_of_the_cut(duo: Duo, engine: Engine, last: int) -> None:
    def on_step(step: int, *_: object) -> None:
        if step == last:
            raise KeyError(step)

    with pytest.raises(KeyError):
        made(duo, on_step=on_step, refiner=by("tiny-sdxl-refiner"))
    assert (engine.stats().stepping, engine.stats().waiting) == (0, 0)


def test_what_is_left_at_an_end_is_what_a_refiner_begins_with(duo: Duo) -> None:
    """Noise is in it, and the steps are counted as they are made."""
    base = duo["tiny-sdxl"]
    seen: list[tuple[int, int]] = []
    prepared = base.prepare(wish(duo, denoising_end=0.8, output=["latents"]), duo)
    produced = base.generate(prepared, 1, {}, lambda *of: seen.append(of[:2]), Ticket(solo=True))
    begun: list[torch.Tensor] = []
    made(duo, ticket=Ticket(solo=True, on_call=lambda call: begun.append(call.tree[0][0])), refiner=by("twin"))
    kept = load(produced.files[0].data)["latents"]
    assert produced.image is None
    assert seen == [(step, 4) for step in range(1, 5)]
    scheduler = base.model.components["scheduler"].from_config(base.model.components["scheduler"].config)
    scheduler.set_timesteps(5)
    scheduler.set_begin_index(4)
    assert torch.equal(scheduler.scale_model_input(kept, scheduler.timesteps[4]), begun[4][:1])


def left(duo: Duo, **fields: Any) -> bytes:
    """The latents of a job that ends before its end."""
    base = duo["tiny-sdxl"]
    prepared = base.prepare(wish(duo, output=["latents"], **fields), duo)
    return base.generate(prepared, 1, {}, ignore, Ticket(solo=True)).files[0].data


def gone_on(duo: Duo, model: str, latents: bytes, **fields: Any) -> tuple[Image.Image, list[tuple[int, int]]]:
    """The picture of another job that begins with these, and its progress."""
    seen: list[tuple[int, int]] = []
    asked = wish(duo, model=model, image="job-1/latents-0-0123456789abcdef.safetensors", **fields)
    prepared = duo[model].prepare(asked, duo)
    sources = prepared.kind.read(prepared, {"image": latents})
    on_step = lambda *of: seen.append(of[:2])  # noqa: E731
    return duo[model].generate(prepared, 1, sources, on_step, Ticket(solo=True)).picture, seen


@pytest.mark.parametrize("scheduler", ["euler", "ddim"])
@pytest.mark.parametrize(("steps", "place", "last"), [(5, 0.8, 1), (5, 0.3, 4), (9, 0.5, 5), (2, 0.9, 1)])
def test_two_jobs_are_the_whole_to_the_bit(duo: Duo, scheduler: str, steps: int, place: float, last: int) -> None:
    asked = {"scheduler": scheduler, "num_inference_steps": steps}
    whole = make(duo["tiny-sdxl"], **asked)
    picture, seen = gone_on(duo, "twin", left(duo, denoising_end=place, **asked), denoising_start=place, **asked)
    assert same(picture, whole)
    assert len(seen) in (last, last - 1, last + 1) and seen == [(step, len(seen)) for step in range(1, len(seen) + 1)]


def test_a_job_goes_on_in_the_middle_and_ends_there_again(duo: Duo) -> None:
    asked: dict[str, Any] = {"scheduler": "euler", "num_inference_steps": 10}
    whole = make(duo["tiny-sdxl"], **asked)
    first = left(duo, denoising_end=0.3, **asked)
    base = duo["tiny-sdxl"]
    key = "job-1/latents-0-0123456789abcdef.safetensors"
    middle = wish(duo, image=key, denoising_start=0.3, denoising_end=0.7, output=["latents"], **asked)
    prepared = base.prepare(middle, duo)
    sources = prepared.kind.read(prepared, {"image": first})
    second = base.generate(prepared, 1, sources, ignore, Ticket(solo=True)).files[0].data
    assert same(gone_on(duo, "twin", second, denoising_start=0.7, **asked)[0], whole)


def test_a_refiner_in_a_job_of_its_own_is_the_one_of_one_job(duo: Duo) -> None:
    """But for the VAE: in one job it is that of the job's own model."""
    refined = load(left(duo, refiner=by("tiny-sdxl-refiner", 0.6)))["latents"]
    picture, _ = gone_on(duo, "tiny-sdxl-refiner", left(duo, denoising_end=0.6), denoising_start=0.6)
    assert same(duo["tiny-sdxl-refiner"].autoencoder.picture(refined), picture)


def test_finished_latents_are_not_gone_on_with(duo: Duo) -> None:
    with pytest.raises(InputUnfit, match="their denoising has ended"):
        gone_on(duo, "twin", left(duo), denoising_start=0.6)


@pytest.mark.parametrize("fields", [{"denoising_start": 0.7}, {"strength": 0.5}])
def test_unfinished_latents_are_gone_on_with_from_where_they_ended(duo: Duo, fields: dict[str, Any]) -> None:
    with pytest.raises(InputUnfit, match=r"ended at 0.8: go on from there, with denoising_start 0.8"):
        gone_on(duo, "twin", left(duo, denoising_end=0.8), **fields)


def test_a_file_tells_of_it_as_others_read_it(duo: Duo) -> None:
    base = duo["tiny-sdxl"]
    prepared = base.prepare(wish(duo, refiner=by("tiny-sdxl-refiner", 0.7)), duo)
    text = parameters_text(prepared.asked, 7, (32, 32), "tiny", prepared.kind.facts(prepared))
    assert "Model: tiny, Refiner: tiny-sdxl-refiner, Refiner switch at: 0.7, Version" in text


class Refined:
    """A job of two models that ran on a loaded engine: its manifest and its objects."""

    def __init__(self, duo: Duo, seeds: range, **fields: Any) -> None:
        base = duo["tiny-sdxl"]
        request = wish(duo, seed=None, seeds=[*seeds], **fields)
        prepared = base.prepare(request, duo)
        self.objects: dict[str, bytes] = {}

        def one(index: int) -> ImageRecord:
            ticket = Ticket()
            image = base.generate(prepared, seeds[index], {}, ignore, ticket).picture
            data, kind = encode(image, "png", "")
            record = ImageRecord.of("job", index, seeds[index], image, data, kind, str(ticket.placements))
            self.objects[record.key] = data
            return record

        with ThreadPoolExecutor(len(seeds)) as pool:
            records = list(pool.map(one, range(len(seeds))))
        models = {name: generator.model for name, generator in duo.items()}
        self.manifest = make_manifest("job", request, base.model, records, {}, beside=models)

    def read(self, duo: Duo) -> Manifest:
        return parse_manifest(self.manifest.to_bytes(), {name: one.entry for name, one in duo.items()})


@pytest.fixture(scope="module")
def refined(duo: Duo) -> Refined:
    hires = {"scale": 1.5, "strength": 0.5, "upscale": "latent"}
    return Refined(duo, range(3, 9), refiner=by("tiny-sdxl-refiner", 0.6), hires=hires)


def test_a_replay_makes_it_again_with_both_models(duo: Duo, refined: Refined) -> None:
    manifest = refined.read(duo)
    assert [one.model.name for one in manifest.further_models] == ["tiny-sdxl-refiner"]
    assert manifest.further_models[0].model.digests == duo["tiny-sdxl-refiner"].model.digests
    replay = Replay(manifest, duo["tiny-sdxl"], refined.objects.get, duo)
    assert [image.equal for image in replay.images()] == [True] * 6
    assert replay.differences == []


def test_alone_and_in_company_it_comes_out_by_its_places(duo: Duo, refined: Refined) -> None:
    for image in refined.manifest.images:
        ticket = Ticket(script=Script(image.calls))
        fields = {"refiner": by("tiny-sdxl-refiner", 0.6), "hires": refined.manifest.request.hires}
        again = made(duo, image.seed, ticket, **fields)
        assert str(ticket.placements) == image.calls
        assert ImageRecord.of("job", 0, 0, again, b"x", "image/png").pixels_sha256 == image.pixels_sha256


def test_another_refiner_than_recorded_is_named(duo: Duo, refined: Refined) -> None:
    (record,) = refined.manifest.further_models
    other = record.model_copy(update={"model": record.model.model_copy(update={"revision": "abc"})})
    manifest = refined.manifest.model_copy(update={"further_models": [other]})
    found = Replay(manifest, duo["tiny-sdxl"], refined.objects.get, duo).differences
    assert found == [Difference("further_models.tiny-sdxl-refiner.model.revision", "abc", "local")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"further_models": []}, "the request names other further models"),
        ({"family": "sd"}, "'sd', but tiny-sdxl-refiner is of the family 'sdxl-refiner'"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    duo: Duo, refined: Refined, change: dict[str, Any], said: str
) -> None:
    (record,) = refined.manifest.further_models
    if "family" in change:
        change = {"further_models": [record.model_copy(update={"model": record.model.model_copy(update=change)})]}
    data = refined.manifest.model_copy(update=change).to_bytes()
    with pytest.raises(ManifestInvalid, match=said):
        parse_manifest(data, {name: one.entry for name, one in duo.items()})


def test_a_manifest_of_one_model_is_written_as_before(duo: Duo) -> None:
    base = duo["tiny-sdxl"]
    request = ask(base, seed=None, seeds=[1])
    image = photo(1)
    record = partial(ImageRecord.of, "job", 0, 1, image, b"x", "image/png")()
    assert b"further_models" not in make_manifest("job", request, base.model, [record], {}).to_bytes()
