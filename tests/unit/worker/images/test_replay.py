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

from darkroom.storage.errors import (
    InputMissing,
    InputNotAnImage,
    KeyInvalid,
    ObjectCorrupt,
    ObjectNotFound,
    ObjectTooLarge,
    StorageError,
    StorageUnavailable,
)
from darkroom.tasks.requests.parts import OutputFormat
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.errors import ManifestInvalid
from darkroom.worker.images.differences import Difference
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import ImageRecord, Manifest, make_manifest, parse_manifest
from darkroom.worker.images.pictures import encode, parameters_text
from darkroom.worker.images.replay import Replay, ReplayedImage
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
            sources = {"image": source} if source else {}
            image = generator.generate(prepared, seed, sources, ignore, ticket := Ticket()).picture
            data, content_type = encode(image, form, parameters_text(prepared.asked, seed, image.size, "tiny"))
            record = ImageRecord.of("job", index, seed, image, data, content_type, str(ticket.placements))
            self.objects[record.key] = data
            self.images.append(image)
            records.append(record)
        digests = {}
        if source:
            self.objects[INPUT] = encode(source, "png", "")[0]
            digests = {"image": hashlib.sha256(self.objects[INPUT]).hexdigest()}
        self.manifest = make_manifest("job", request, generator.model, records, {}, digests)

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


@pytest.mark.parametrize("count", [12, pytest.param(50, marks=pytest.mark.thorough)])
def test_random_jobs_of_a_loaded_engine_come_out_again(generators: Generators, engine: Engine, count: int) -> None:
    draw, loaded = random.Random(5), [generators(family) for family in FAMILIES]

    def job(number: int) -> tuple[Generator, Done]:
        generator = draw.choice(loaded)
        fields = {
            "scheduler": draw.choice(generator.model.entry.schedulers),
            "guidance_scale": draw.choice((1.0, 4.0, 9.0)),
            "num_inference_steps": draw.randint(1, 5),
            "prompt": draw.choice(("a red fox", "two cats", "the sea " * 60)),
        }
        return generator, Done(generator, source=photo(number) if number % 3 == 0 else None, **fields)

    before = engine.stats()
    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(job, range(count)))
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
    assert [difference.field for difference in replay.differences] == ["inputs_sha256.image"]
    assert not next(replay.images()).bit_equal


def key_of(done: Done, index: int) -> str:
    return done.manifest.images[index].key


def replaced(generators: Generators, done: Done, data: bytes | None) -> ReplayedImage:
    """The first picture made again, with these bytes in the original's place, and the second as it was."""
    objects: dict[str, bytes | None] = {**done.objects, key_of(done, 0): data}
    first, second = Replay(done.manifest, generators("sdxl"), objects.get).images()
    assert second.equal
    assert not first.equal
    assert first.bit_equal  # it comes out as recorded; what is stored is another
    return first


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_stored_picture_that_was_changed_is_named_and_measured(generators: Generators, done: Done) -> None:
    record = done.manifest.images[0]
    shown = Image.open(io.BytesIO(done.objects[record.key])).convert("RGB")
    red, green, blue = shown.getpixel((0, 0))  # type: ignore[misc]
    shown.putpixel((0, 0), (red, green, (blue + 96) % 256))
    off = abs((blue + 96) % 256 - blue)
    data = encode(shown, "png", "")[0]
    first = replaced(generators, done, data)
    assert first.faults == (
        Difference("images.0.bytes", record.bytes, len(data)),
        Difference("images.0.sha256", record.sha256, digest(data)),
    )
    assert (first.max_abs, first.mean_abs) == (off, pytest.approx(off / (32 * 32 * 3)))


def test_the_same_pixels_in_another_file_are_not_the_original(generators: Generators, done: Done) -> None:
    record = done.manifest.images[0]
    data = done.objects[record.key][:-4] + b"\0\0\0\0"  # the last chunk's checksum: of the same size, and readable
    first = replaced(generators, done, data)
    assert first.faults == (Difference("images.0.sha256", record.sha256, digest(data)),)


def test_what_is_no_picture_any_more_cannot_be_measured(generators: Generators, done: Done) -> None:
    first = replaced(generators, done, b"<html>")
    assert [fault.field for fault in first.faults] == ["images.0.bytes", "images.0.sha256"]
    assert (first.max_abs, first.mean_abs) == (None, None)


def test_without_the_original_nothing_is_equal(generators: Generators, done: Done) -> None:
    first = replaced(generators, done, None)
    assert first.faults == (Difference("images.0.key", key_of(done, 0), "not at hand"),)


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (ObjectNotFound("gone"), ("key", "object_not_found")),
        (ObjectCorrupt("rotten"), ("key", "object_corrupt")),
        (KeyInvalid("a link"), ("key", "key_invalid")),
        (ObjectTooLarge("grown"), ("bytes", "more")),
    ],
)
def test_what_the_store_says_of_an_object_is_named(
    generators: Generators, done: Done, error: StorageError, named: tuple[str, str]
) -> None:
    def load(key: str) -> bytes:
        if key == key_of(done, 0):
            raise error
        return done.objects[key]

    first = next(Replay(done.manifest, generators("sdxl"), load).images())
    (fault,) = first.faults
    assert (fault.field, fault.now) == (f"images.0.{named[0]}", named[1])
    assert not first.equal


def test_a_store_that_does_not_answer_is_no_difference(generators: Generators, done: Done) -> None:
    def load(key: str) -> bytes:
        raise StorageUnavailable(key)

    with pytest.raises(StorageUnavailable):
        next(Replay(done.manifest, generators("sdxl"), load).images())


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_forged_manifest_does_not_make_another_picture_the_original(
    generators: Generators, form: OutputFormat
) -> None:
    """Record and object agree with each other, but the seed does not give this picture."""
    job = Done(generators("sd"), form)
    data, content_type = encode(photo(9), form, "")
    forged = ImageRecord.of("job", 0, 3, photo(9), data, content_type)
    for pixels in (forged.pixels_sha256, job.manifest.images[0].pixels_sha256):
        records = [forged.model_copy(update={"pixels_sha256": pixels}), job.manifest.images[1]]
        manifest = job.manifest.model_copy(update={"images": records})
        first = next(Replay(manifest, generators("sd"), {**job.objects, forged.key: data}.get).images())
        assert (first.equal, first.faults) == (False, ())
        assert first.max_abs and first.bit_equal == (pixels != forged.pixels_sha256)


def test_another_size_than_recorded_is_another_picture(generators: Generators, done: Done) -> None:
    """A digest of the pixels alone does not tell 16 x 64 from 32 x 32."""
    records = [done.manifest.images[0].model_copy(update={"width": 16, "height": 64}), done.manifest.images[1]]
    manifest = done.manifest.model_copy(update={"images": records})
    assert not next(Replay(manifest, generators("sdxl"), done.objects.get).images()).bit_equal


def test_an_original_of_another_size_is_not_measured(generators: Generators, done: Done) -> None:
    assert replaced(generators, done, encode(photo(0, 64, 64), "png", "")[0]).max_abs is None


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


LONG = "the sea " * 60


@pytest.mark.parametrize(
    "fields",
    [
        {"clip_skip": 1, "guidance_rescale": 0.7, "crop": [8, 0], "original_size": [64, 64], "target_size": [40, 32]},
        {"prompt": LONG, "prompt_2": "a cat", "negative_prompt_2": "a dog"},
        {"prompt": LONG, "long_prompt": "cut"},
        {"prompt": f"a (red)1.5 fox (on)0.5 {LONG}", "prompt_syntax": "compel", "prompt_2": '("a", "cat").blend(1, 2)'},
    ],
)
def test_what_the_model_was_told_is_told_again(generators: Generators, fields: dict[str, Any]) -> None:
    generator = generators("sdxl")
    entry = generator.model.entry
    for source in (None, photo(3)):
        job = Done(generator, source=source, **fields)
        manifest = parse_manifest(job.manifest.to_bytes(), {entry.name: entry})
        replay = Replay(manifest, generator, job.objects.get)
        assert [one.bit_equal for one in replay.images()] == [True, True]
        assert replay.differences == []
