"""Jobs that begin with latents: decoded, or with noise laid over them, without the VAE's encoder."""

import json
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save

from darkroom.storage.errors import InputCorrupt, InputNotAnImage, InputNotLatents, InputUnfit
from darkroom.tasks.catalogue import Family
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.proxies import VaeProxy
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.pictures import encode, parameters_text
from darkroom.worker.images.replay import Replay
from darkroom.worker.images.schedulers import make_scheduler
from darkroom.worker.kinds.latents import latents_file
from darkroom.worker.kinds.products import Produced
from tests.unit.worker.conftest import FAMILIES, Generators, ask, ignore, photo, same
from tests.unit.worker.kinds.test_latents import BOTH, Done, asked, produce, tensor_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

KEY = "0197-job/latents-0-0123456789abcdef.safetensors"
DECODE = {"kind": "decode", "image": KEY}
PNG = encode(photo(3), "png", "")[0]


def begun(generator: Generator, data: bytes, **fields: Any) -> Produced:
    """What a job makes of a file."""
    request = asked(generator, **{**DECODE, **fields}) if fields.get("kind") in (None, "decode", "encode") else None
    request = request or ask(generator, **{"image": KEY, **fields})
    prepared = generator.prepare(request)
    sources = prepared.kind.read(prepared, {"image": data})
    return generator.generate(prepared, request.seed_of(0), sources, ignore, Ticket(solo=True))


@pytest.mark.parametrize("fields", [{}, {"width": 64}, {"image": "inputs/default/it.png", "strength": 0.5}])
@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_gives_the_picture_that_the_latents_had(
    generators: Generators, family: Family, fields: dict[str, Any]
) -> None:
    made = produce(generators(family), BOTH, **fields)
    assert same(begun(generators(family), made.files[0].data).picture, made.picture)


@pytest.mark.parametrize("family", FAMILIES)
def test_img2img_of_latents_is_stock_diffusers_of_those_that_were_not_decoded(
    generators: Generators, family: Family
) -> None:
    generator = generators(family)
    model, name = generator.model, generator.entry.defaults.scheduler
    first = produce(generator, ["latents"])
    made = begun(generator, first.files[0].data, kind="img2img", strength=0.7, seed=9, output=BOTH)
    parts = {**model.components, "scheduler": make_scheduler(name, model.components["scheduler"], family, 9)}
    stock = model.family.pipeline("img2img", parts, model.options)
    stock.set_progress_bar_config(disable=True)
    found = stock(
        prompt="a red fox",
        image=tensor_of(first),
        strength=0.7,
        num_inference_steps=3,
        guidance_scale=generator.entry.defaults.guidance_scale,
        generator=torch.Generator().manual_seed(9),
        output_type="latent",
    ).images
    torch.testing.assert_close(tensor_of(made), found, rtol=1e-4, atol=1e-4)
    assert not same(made.picture, begun(generator, first.files[0].data).picture)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_nothing_is_encoded(generators: Generators, monkeypatch: pytest.MonkeyPatch, strength: float) -> None:
    generator = generators("sdxl")
    first = produce(generator, BOTH)
    monkeypatch.setattr(VaeProxy, "encode", lambda *_: pytest.fail("there is a latent already"))
    made = begun(generator, first.files[0].data, kind="img2img", strength=strength, output=BOTH)
    assert made.picture.size == (32, 32)
    if strength == 0:
        assert same(made.picture, first.picture) and torch.equal(tensor_of(made), tensor_of(first))
    if strength == 1:
        assert same(made.picture, produce(generator, ["image"]).picture)  # of the same seed


def test_latents_of_other_types_are_taken(generators: Generators) -> None:
    generator = generators("sd")
    latents = tensor_of(produce(generator, ["latents"]))
    for dtype in (torch.float16, torch.bfloat16):
        made = begun(generator, latents_file(latents.to(dtype), generator.space).data)
        assert made.picture.size == (32, 32)
        drawn = begun(generator, latents_file(latents.to(dtype), generator.space).data, kind="img2img", output=BOTH)
        assert tensor_of(drawn).dtype == torch.float32  # the model's


def file_of(shape: tuple[int, ...] = (1, 4, 4, 4), **about: Any) -> bytes:
    return save({"latents": torch.zeros(shape)}, {"darkroom": json.dumps(about)})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (file_of(family="sd"), "family 'sd', not 'sdxl'"),
        (file_of(), "family None, not 'sdxl'"),
        (file_of(family="sdxl", scaling_factor=0.5), "scaling_factor 0.5, not"),
        (file_of(family="sdxl", latents_mean=[1, 2, 3, 4]), "latents_mean"),
        (file_of((1, 4, 4, 500), family="sdxl"), "4000x32 pixels"),
        (file_of((1, 4, 1, 4), family="sdxl"), "32x8 pixels; sides are"),
        (file_of((1, 4, 250, 250), family="sdxl"), "pixels"),
    ],
)
@pytest.mark.parametrize("kind", ["decode", "img2img"])
def test_latents_of_another_family_or_size(generators: Generators, kind: str, data: bytes, why: str) -> None:
    with pytest.raises(InputUnfit, match=why):
        begun(generators("sdxl"), data, kind=kind)


def test_latents_of_another_size_than_is_asked_for(generators: Generators) -> None:
    data = file_of(family="sdxl")
    assert begun(generators("sdxl"), data, kind="img2img", width=32, height=32).picture.size == (32, 32)
    with pytest.raises(InputUnfit, match="32x32 pixels, the request is for 64x32"):
        begun(generators("sdxl"), data, kind="img2img", width=64, height=32)


def test_all_that_does_not_fit_is_named(generators: Generators) -> None:
    with pytest.raises(InputUnfit, match=r"family 'sd'.*scaling_factor 3.*4000x32"):
        begun(generators("sdxl"), file_of((1, 4, 4, 500), family="sd", scaling_factor=3))


def test_a_picture_where_latents_are_needed_and_the_reverse(generators: Generators) -> None:
    generator, latents = generators("sdxl"), file_of(family="sdxl")
    with pytest.raises(InputNotLatents, match=r"no .safetensors file"):
        begun(generator, PNG)
    with pytest.raises(InputNotAnImage, match="something else"):
        begun(generator, latents, kind="encode", image="inputs/default/it.png")
    assert begun(generator, PNG, kind="img2img").picture.size == (32, 32)  # by content, whatever the key


def test_values_that_are_no_numbers_and_headers_that_cannot_be(generators: Generators) -> None:
    for kind in ("decode", "img2img"):
        with pytest.raises(InputCorrupt, match="NaN"):
            begun(generators("sdxl"), save({"latents": torch.full((1, 4, 4, 4), torch.nan)}), kind=kind)
        with pytest.raises(InputCorrupt, match="header"):
            begun(generators("sdxl"), b"\xff\xff\xff\0\0\0\0\0{}", kind=kind)


def test_a_decoded_picture_says_what_is_known_of_it(generators: Generators) -> None:
    prepared = generators("sd").prepare(asked(generators("sd"), **DECODE))
    text = parameters_text(prepared.asked, 0, (32, 32), "tiny-sd")
    assert text.startswith("Size: 32x32, Model: tiny-sd, Version: Darkroom")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fields", [DECODE, {"image": KEY, "seed": None, "seeds": [3, 4], "output": BOTH}])
def test_a_replay_of_what_began_with_latents(generators: Generators, family: Family, fields: dict[str, Any]) -> None:
    generator = generators(family)
    source = produce(generator, ["latents"]).files[0].data
    done = Done(generator, source, **fields)
    assert list(done.manifest.inputs_sha256) == ["image"]
    replay = Replay(done.manifest, generator, done.objects.get)
    images = list(replay.images())
    assert all(one.equal for one in [*images, *replay.files]) and replay.differences == []
    assert len(images) == done.manifest.request.pieces
    other = {**done.objects, KEY: file_of((1, 4, 4, 4), **json.loads(json.dumps(generator.space.about())))}
    again = Replay(done.manifest, generator, other.get)
    assert [one.field for one in again.differences] == ["inputs_sha256.image"]
    assert not any(image.bit_equal for image in again.images())


def test_a_loaded_picture_is_no_latent(generators: Generators) -> None:
    generator = generators("sd")
    prepared = generator.prepare(asked(generator, **DECODE))
    with pytest.raises(Exception, match="decode without its latents"):
        generator.generate(prepared, 0, {"image": Image.new("RGB", (32, 32))}, ignore)


def test_the_refiner_takes_up_latents_of_sdxl(generators: Generators) -> None:
    """They are of one space, and the file says so; the other way round it is so, too."""
    first = produce(generators("sdxl"), ["latents"]).files[0].data
    refined = begun(generators("sdxl-refiner"), first, kind="img2img", strength=0.4, output=BOTH)
    assert refined.picture.size == (32, 32)
    assert begun(generators("sdxl"), refined.files[0].data).picture.size == (32, 32)
    with pytest.raises(InputUnfit, match="family 'sd', not 'sdxl'"):
        begun(generators("sdxl-refiner"), produce(generators("sd"), ["latents"]).files[0].data, kind="img2img")
