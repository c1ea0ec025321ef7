"""Replay: bit-equal where nothing changed, and what changed where it is not."""

import hashlib
import io
import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from PIL import Image

from darkroom.storage.errors import InputMissing, InputNotAnImage
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.errors import ManifestInvalid
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import ImageRecord, Manifest, make_manifest, parse_manifest
from darkroom.worker.images.pictures import OutputFormat, encode, parameters_text
from darkroom.worker.images.replay import Difference, Replay
from tests.unit.worker.conftest import FAMILIES, Generators, ask, ignore, photo, same

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

INPUT = "inputs/default/it.png"


class Done:
    """A job that ran: its manifest, and its objects by key."""

    def __init__(
        self, generator: Generator, form: OutputFormat = "png", source: Image.Image | None = None, **fields: Any
    ) -> None:
        named = {"image": INPUT} if source else {}
        request = ask(generator, seed=None, seeds=[3, 4], output_format=form, **named, **fields)
        prepared = generator.prepare(request)
        self.objects: dict[str, bytes] = {}
        self.images: list[Image.Image] = []
        records = []
        for index, seed in enumerate([3, 4]):
            image = generator.generate(prepared, seed, source, ignore, ticket := Ticket())
            data, content_type = encode(image, form, parameters_text(prepared.asked, seed, image.size, "tiny"))
            key = f"job/{index}-0.{form}"
            self.objects[key] = data
            self.images.append(image)
            records.append(ImageRecord.of(index, seed, image, data, key, content_type, str(ticket.placements)))
        digest = None
        if source:
            self.objects[INPUT] = encode(source, "png", "")[0]
            digest = hashlib.sha256(self.objects[INPUT]).hexdigest()
        self.manifest = make_manifest("job", request, generator.model, records, {}, digest)

    def changed(self, **parts: Mapping[str, object]) -> Manifest:
        """The manifest with some fields of its parts as they were elsewhere."""
        return self.manifest.model_copy(
            update={
                name: {**old, **new}
                if isinstance(old := getattr(self.manifest, name), dict)
                else old.model_copy(update=new)
                for name, new in parts.items()
            }
        )


@pytest.fixture(scope="module")
def done(generators: Generators) -> Done:
    return Done(generators("sdxl"))


def test_the_same_circumstances_give_the_same_bits(generators: Generators, done: Done) -> None:
    replay = Replay(done.manifest, generators("sdxl"), done.objects.get)
    assert replay.differences == []
    made = list(replay.images())
    assert [(one.index, one.seed, one.bit_equal, one.max_abs, one.mean_abs) for one in made] == [
        (0, 3, True, 0, 0.0),
        (1, 4, True, 0, 0.0),
    ]
    assert all(same(one.image, image) for one, image in zip(made, done.images, strict=True))


def test_random_jobs_of_a_loaded_engine_come_out_again(generators: Generators, engine: Engine) -> None:
    draw, loaded = random.Random(5), [generators(family) for family in FAMILIES]

    def job(number: int) -> tuple[Generator, Done]:
        generator = draw.choice(loaded)
        fields = {
            "scheduler": draw.choice(generator.model.entry.schedulers),
            "guidance_scale": draw.choice((1.0, 4.0, 9.0)),
            "num_inference_steps": draw.randint(1, 5),
            "prompt": draw.choice(("a red fox", "two cats")),
        }
        return generator, Done(generator, source=photo(number) if number % 3 == 0 else None, **fields)

    before = engine.stats()
    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(job, range(25)))
    calls = engine.stats().calls - before.calls
    assert sum(engine.stats().model_calls.values()) - sum(before.model_calls.values()) < calls
    for generator, made in done:
        entry = generator.model.entry
        manifest = parse_manifest(made.manifest.to_bytes(), {entry.name: entry})
        replay = Replay(manifest, generator, made.objects.get)
        assert [one.bit_equal for one in replay.images()] == [True, True]
        assert replay.differences == []


def test_places_that_cannot_be_repeated_are_told_of(generators: Generators, done: Done) -> None:
    records = [image.model_copy(update={"calls": "2:1 2x8:0"}) for image in done.manifest.images]
    manifest = done.manifest.model_copy(update={"images": records})
    replay = Replay(manifest, generators("sdxl"), {}.get)
    list(replay.images())
    assert replay.differences == [Difference(f"images.{i}.calls", "2:1 2x8:0", "2:0 2x8:0") for i in (0, 1)]


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_lossy_files_are_compared_as_they_show(generators: Generators, form: OutputFormat) -> None:
    job = Done(generators("sd"), form)
    made = list(Replay(job.manifest, generators("sd"), job.objects.get).images())
    assert [(one.bit_equal, one.max_abs) for one in made] == [(True, 0), (True, 0)]


def test_img2img_needs_its_source_again(generators: Generators) -> None:
    job = Done(generators("playground"), source=photo(3))
    assert [one.bit_equal for one in Replay(job.manifest, generators("playground"), job.objects.get).images()] == [
        True
    ] * 2
    with pytest.raises(InputMissing, match="inputs/default"):
        Replay(job.manifest, generators("playground"), {}.get)
    with pytest.raises(InputNotAnImage):
        Replay(job.manifest, generators("playground"), {**job.objects, INPUT: b"<html>"}.get)


def test_another_source_is_told_of_and_shows(generators: Generators) -> None:
    job = Done(generators("playground"), source=photo(3))
    other = encode(photo(4), "png", "")[0]
    replay = Replay(job.manifest, generators("playground"), {**job.objects, INPUT: other}.get)
    assert [difference.field for difference in replay.differences] == ["input_sha256"]
    assert not next(replay.images()).bit_equal


def test_an_original_that_is_no_picture_any_more_is_not_compared(generators: Generators, done: Done) -> None:
    objects = {**done.objects, "job/0-0.png": b"<html>"}
    first, second = Replay(done.manifest, generators("sdxl"), objects.get).images()
    assert (first.bit_equal, first.max_abs, first.mean_abs) == (True, None, None)
    assert (second.bit_equal, second.max_abs) == (True, 0)


def test_how_far_off_is_measured_against_the_original(generators: Generators, done: Done) -> None:
    shown = Image.open(io.BytesIO(done.objects["job/0-0.png"])).convert("RGB")
    red, green, blue = shown.getpixel((0, 0))  # type: ignore[misc]
    shown.putpixel((0, 0), (red, green, (blue + 96) % 256))
    off = abs((blue + 96) % 256 - blue)
    objects = {**done.objects, "job/0-0.png": encode(shown, "png", "")[0]}
    first = next(Replay(done.manifest, generators("sdxl"), objects.get).images())
    assert (first.max_abs, first.mean_abs) == (off, pytest.approx(off / (32 * 32 * 3)))
    assert first.bit_equal  # as the manifest says; the file is what was changed


def test_without_the_original_only_the_digest_speaks(generators: Generators, done: Done) -> None:
    records = [done.manifest.images[0].model_copy(update={"pixels_sha256": "0" * 64}), done.manifest.images[1]]
    manifest = done.manifest.model_copy(update={"images": records})
    made = list(Replay(manifest, generators("sdxl"), {}.get).images())
    assert [(one.bit_equal, one.max_abs) for one in made] == [(False, None), (True, None)]


def test_an_original_of_another_size_is_not_measured(generators: Generators, done: Done) -> None:
    objects = {"job/0-0.png": encode(photo(0, 64, 64), "png", "")[0]}
    assert next(Replay(done.manifest, generators("sdxl"), objects.get).images()).max_abs is None


def test_changed_circumstances_are_named_with_both_sides(generators: Generators, done: Done) -> None:
    manifest = done.changed(
        environment={"threads": 64, "gpu": "H100"},
        model={"revision": "abc", "digests": {**done.manifest.model.digests, "unet/config.json": "0" * 64}},
        scheduler={"config": {**done.manifest.scheduler.config, "beta_end": 0.5}},
    ).model_copy(update={"dtype": "bfloat16"})
    found = {one.field: one for one in Replay(manifest, generators("sdxl"), {}.get).differences}
    assert set(found) == {
        "environment.threads",
        "environment.gpu",
        "model.revision",
        "model.digests.unet/config.json",
        "scheduler.config.beta_end",
        "dtype",
    }
    assert found["environment.threads"] == Difference("environment.threads", 64, 1)
    assert found["environment.gpu"].now is None
    assert str(found["dtype"]) == "dtype: recorded bfloat16, now float32"


def test_another_build_of_torch_is_named_and_a_manifest_that_tells_of_none_is_read(
    generators: Generators, done: Done
) -> None:
    entry = generators("sdxl").model.entry
    for recorded in ("2.13.0", "2.13.0+cu999"):
        data = done.changed(environment={"torch": recorded}).to_bytes()
        replay = Replay(parse_manifest(data, {entry.name: entry}), generators("sdxl"), {}.get)
        assert replay.differences == [Difference("environment.torch", recorded, str(torch.__version__))]


def test_another_models_manifest_is_refused(generators: Generators, done: Done) -> None:
    with pytest.raises(ManifestInvalid, match="tiny-sdxl, the model at hand is tiny-sd"):
        Replay(done.manifest, generators("sd"), {}.get)


def test_progress_of_a_replay_can_be_followed(generators: Generators, done: Done) -> None:
    seen: list[tuple[int, int]] = []
    list(Replay(done.manifest, generators("sdxl"), {}.get).images(lambda step, of, _: seen.append((step, of))))
    assert seen == [(1, 3), (2, 3), (3, 3)] * 2
