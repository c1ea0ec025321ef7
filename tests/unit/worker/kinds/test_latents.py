"""Latents of images: kept beside the pictures or instead of them, and made of pictures."""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load

from darkroom.tasks.catalogue import Family
from darkroom.tasks.requests import Request
from darkroom.tasks.requests.parts import Sampled
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.stacking import Call
from darkroom.worker.images.autoencoder import Autoencoder
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import FileRecord, ImageRecord, Manifest, make_manifest, parse_manifest
from darkroom.worker.images.pictures import encode, parameters_text
from darkroom.worker.images.replay import Replay
from darkroom.worker.images.schedulers import make_scheduler
from darkroom.worker.images.warm import warm
from darkroom.worker.kinds import KINDS as DONE
from darkroom.worker.kinds.products import Produced, ProducedFile
from darkroom.worker.models.scale import LatentScale
from tests.together import together
from tests.unit.worker.conftest import FAMILIES, Generators, Models, ask, ignore, make, photo, same

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BOTH = ["image", "latents"]
SOURCE = "inputs/default/it.png"
DRAWN = [name for name, kind in DONE.items() if issubclass(kind.request, Sampled) and name != "stylize"]
ENCODE = {"kind": "encode", "image": SOURCE}


def asked(generator: Generator, **fields: Any) -> Request:
    """A resolved request, of a kind that has a prompt and of one that has none."""
    if fields.get("kind") not in ("encode", "decode"):
        return ask(generator, **fields)
    entry = generator.entry
    return resolve({"model": entry.name, **fields}, {entry.name: entry}, lambda: None).filled


def produce(generator: Generator, output: Sequence[str] = BOTH, **fields: Any) -> Produced:
    """What one image leaves, with a photo as the source of what needs one."""
    request = ask(generator, output=list(output), **fields)
    prepared = generator.prepare(request)
    sources = {name: photo(3) for name in request.references}
    return generator.generate(prepared, request.seed_of(0), sources, ignore, Ticket(solo=True))


def tensor_of(made: Produced) -> torch.Tensor:
    (file,) = made.files
    assert (file.role, file.extension) == ("latents", "safetensors")
    return load(file.data)["latents"]


def about(file: ProducedFile, folder: Any) -> dict[str, Any]:
    (folder / "it.safetensors").write_bytes(file.data)
    with safe_open(folder / "it.safetensors", "pt") as opened:
        return json.loads(opened.metadata()["darkroom"])  # type: ignore[no-any-return]


@pytest.mark.parametrize("strength", [None, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_picture_is_what_it_is_without(generators: Generators, family: Family, strength: float | None) -> None:
    generator = generators(family)
    fields = {} if strength is None else {"image": SOURCE, "strength": strength}
    alone = produce(generator, ["image"], **fields)
    both = produce(generator, **fields)
    assert same(both.picture, alone.picture) and not alone.files
    only = produce(generator, ["latents"], **fields)
    assert only.image is None
    assert only.files[0].data == both.files[0].data


@pytest.mark.parametrize("family", FAMILIES)
def test_the_latents_are_what_stock_diffusers_leaves_and_its_picture_is_theirs(
    generators: Generators, family: Family
) -> None:
    """Stock pipelines over the real modules, with nothing of ours between."""
    generator = generators(family)
    model, entry = generator.model, generator.entry
    made = produce(generator, scheduler=entry.defaults.scheduler)
    parts = {
        **model.components,
        "scheduler": make_scheduler(entry.defaults.scheduler, model.components["scheduler"], family, 1),
    }
    stock = model.family.pipeline("txt2img", parts, model.options)
    stock.set_progress_bar_config(disable=True)
    request = ask(generator)
    wish = {"prompt": "a red fox", "width": 32, "height": 32, "num_inference_steps": 3}
    found = {
        form: stock(
            **wish, guidance_scale=request.guidance_scale, generator=torch.Generator().manual_seed(1), output_type=form
        ).images
        for form in ("latent", "pil")
    }
    torch.testing.assert_close(tensor_of(made), found["latent"], rtol=1e-4, atol=1e-4)
    decoded = generator.autoencoder.picture(found["latent"])
    assert same(decoded, found["pil"][0])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_says_whose_latents_they_are(generators: Generators, family: Family, tmp_path: Any) -> None:
    generator = generators(family)
    made = produce(generator, width=64, height=32)
    latents, config = tensor_of(made), generator.model.components["vae"].config
    assert (tuple(latents.shape), latents.dtype) == ((1, 4, 4, 8), torch.float32)
    normalised = family == "playground"
    assert about(made.files[0], tmp_path) == {
        "family": family,
        "model": generator.entry.name,
        "width": 64,
        "height": 32,
        "seed": 1,
        "scaling_factor": config.scaling_factor,
        "latents_mean": list(config.latents_mean) if normalised else None,
        "latents_std": list(config.latents_std) if normalised else None,
    }


@pytest.mark.parametrize("kind", DRAWN)
def test_every_kind_that_denoises_keeps_what_is_asked_for(
    generators: Generators, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """For latents alone nothing is decoded."""
    decoded: list[torch.Tensor] = []
    decode = Autoencoder.picture
    monkeypatch.setattr(Autoencoder, "picture", lambda self, latents: decoded.append(latents) or decode(self, latents))
    generator = generators("sdxl")
    for output, found in ((["latents"], (False, 1)), (BOTH, (True, 1)), (["image"], (True, 0))):
        decoded.clear()
        request, sources = DONE[kind].trial(generator.entry, 32, 32)
        prepared = generator.prepare(request.model_copy(update={"output": output}))
        made = generator.generate(prepared, 1, sources, ignore)
        assert (made.image is not None, len(made.files)) == found
        assert bool(decoded) == ("image" in output)


# encode


@pytest.mark.parametrize("family", FAMILIES)
def test_encoding_draws_nothing_and_comes_back_as_the_picture(generators: Generators, family: Family) -> None:
    generator = generators(family)
    one, other = (tensor_of(produce_latents(generator)) for _ in range(2))
    assert torch.equal(one, other) and tuple(one.shape) == (1, 4, 4, 4)
    back = np.asarray(generator.autoencoder.picture(one)).astype(int)
    expected = np.asarray(make(generator, 1, photo(3), strength=0.0)).astype(int)
    assert np.abs(back - expected).max() <= 1  # one scale more to round in


def produce_latents(generator: Generator, **fields: Any) -> Produced:
    prepared = generator.prepare(asked(generator, **ENCODE, **fields))
    sources = DONE["encode"].read(prepared, {"image": encode(photo(3), "png", "")[0]})
    steps: list[int] = []
    made = generator.generate(prepared, 0, sources, lambda step, _of, _latents: steps.append(step))
    assert steps == [] and prepared.kind.steps(prepared) == 0 and made.image is None
    return made


@pytest.mark.parametrize(("width", "height", "shape"), [(64, 32, (4, 8)), (None, None, (4, 4))])
def test_latents_have_the_size_that_is_asked_for(
    generators: Generators, width: int | None, height: int | None, shape: tuple[int, int]
) -> None:
    made = produce_latents(generators("sd"), width=width, height=height)
    assert tuple(tensor_of(made).shape[2:]) == shape


def test_scales_are_each_others_opposite() -> None:
    latents = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    config = type("Config", (dict,), {"scaling_factor": 0.5})
    plain = LatentScale.of(config(latents_mean=[1, 2, 3, 4], latents_std=[1, 2, 3, 4]), normalised=False)
    assert torch.equal(plain.to_vae(latents), latents / 0.5)
    scale = LatentScale.of(config(latents_mean=[1, 2, 3, 4], latents_std=[1, 2, 3, 4]), normalised=True)
    assert torch.equal(scale.to_vae(latents)[0, 3], latents[0, 3] * 4 / 0.5 + 4)
    torch.testing.assert_close(scale.from_vae(scale.to_vae(latents)), latents)


# manifests and replay


class Done:
    """A job of images that kept latents: its manifest, and its objects by key."""

    def __init__(
        self, generator: Generator, source: bytes | None = None, on_call: Callable[[Call], None] = ignore, **fields: Any
    ) -> None:
        request = asked(generator, **fields)
        prepared, self.objects = generator.prepare(request), dict[str, bytes]()
        source, digests = source or encode(photo(3), "png", "")[0], {}
        images, files = list[ImageRecord](), list[FileRecord]()
        if request.references:
            self.objects[request.references["image"]] = source
            digests = {"image": hashlib.sha256(source).hexdigest()}
        sources = prepared.kind.read(prepared, dict.fromkeys(request.references, source))
        for index in range(request.pieces):
            seed = request.seed_of(index)
            made = generator.generate(prepared, seed, sources, ignore, ticket := Ticket(on_call=on_call))
            calls = str(ticket.placements)
            if made.image:
                data, form = encode(made.image, "png", parameters_text(prepared.asked, seed, made.image.size, "tiny"))
                images.append(ImageRecord.of("job", index, seed, made.image, data, form, calls))
                self.objects[images[-1].key] = data
            for file in made.files:
                files.append(FileRecord.of("job", file.of_image(index), "" if made.image else calls))
                self.objects[files[-1].key] = file.data
        written = make_manifest("job", request, generator.model, images, {}, digests, files)
        self.manifest: Manifest = parse_manifest(written.to_bytes(), {generator.entry.name: generator.entry})
        assert self.manifest == written


SEEDS = {"seed": None, "seeds": [3, 4]}


@pytest.mark.parametrize(
    "fields",
    [
        {**SEEDS, "output": BOTH},
        {**SEEDS, "output": ["latents"]},
        {**SEEDS, "output": ["latents"], "image": SOURCE, "strength": 0.5},
        ENCODE,
    ],
    ids=["both", "alone", "img2img", "encode"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_replay_makes_the_same_files(generators: Generators, family: Family, fields: dict[str, Any]) -> None:
    done = Done(generators(family), **fields)
    replay = Replay(done.manifest, generators(family), done.objects.get)
    images = list(replay.images())
    assert all(one.equal for one in [*images, *replay.files]) and replay.differences == []
    assert (len(images), len(replay.files)) == (len(done.manifest.images), len(done.manifest.files))
    assert len(replay.files) == done.manifest.request.pieces


def test_files_of_a_loaded_engine_come_out_again(generators: Generators, engine: Engine) -> None:
    before, each = engine.stats(), together(6)

    def done(seed: int) -> Done:
        options = {"seed": seed, "output": ["latents"], "num_inference_steps": 25}
        return Done(generators("sdxl"), on_call=each(), **options)

    with ThreadPoolExecutor(6) as pool:
        jobs = list(pool.map(done, range(6)))
    after = engine.stats()
    assert sum(after.model_calls.values()) - sum(before.model_calls.values()) < after.calls - before.calls
    assert any(job.manifest.files[0].calls != "25x2:0" for job in jobs)
    for job in jobs:
        replay = Replay(job.manifest, generators("sdxl"), job.objects.get)
        assert list(replay.images()) == [] and replay.files[0].equal and replay.differences == []


def test_a_manifest_of_a_kind_without_seeds_and_scheduler(generators: Generators) -> None:
    generator = generators("sd")
    manifest = Done(generator, **ENCODE).manifest
    assert (manifest.seeds, manifest.scheduler, manifest.request.all_seeds) == ([], None, [])
    entry = generator.entry
    data = json.loads(manifest.to_bytes())
    other = json.loads(Done(generator).manifest.to_bytes())
    for wrong, why in (
        ({"seeds": [1]}, "the request has other seeds"),
        ({"scheduler": other["scheduler"]}, "the request is for None, the scheduler is"),
        ({"files": []}, "image 0 is missing"),
    ):
        with pytest.raises(Exception, match=why):
            parse_manifest(json.dumps(data | wrong).encode(), {entry.name: entry})
    for wrong, why in (
        ({"seeds": []}, "the request has other seeds"),
        ({"scheduler": None}, "the scheduler is None"),
    ):
        with pytest.raises(Exception, match=why):
            parse_manifest(json.dumps(other | wrong).encode(), {entry.name: entry})


def test_a_manifest_without_latents_is_as_the_first_release_reads_it(generators: Generators) -> None:
    assert "output" not in json.loads(Done(generators("sd")).manifest.to_bytes())["request"]
    kept = json.loads(Done(generators("sd"), output=BOTH).manifest.to_bytes())["request"]
    assert kept["output"] == BOTH


def test_a_model_that_offers_encoding_alone_is_warmed(models: Models, engine: Engine) -> None:
    model = models("sd")
    warm(Generator(replace(model, entry=model.entry.model_copy(update={"kinds": ["encode"]})), engine), 0)
