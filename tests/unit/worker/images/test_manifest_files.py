"""Files in manifests, and files that were made again beside those."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import pytest

from darkroom.storage.errors import ObjectNotFound
from darkroom.worker.errors import ManifestInvalid
from darkroom.worker.images.files_again import compared_files
from darkroom.worker.images.manifest import (
    FileRecord,
    ImageRecord,
    Manifest,
    SampleRecord,
    make_manifest,
    parse_manifest,
)
from darkroom.worker.images.pictures import encode
from darkroom.worker.kinds.products import ProducedFile
from tests.unit.worker.conftest import Models, ask, photo

JOB = "0197-job"
LATENTS = [ProducedFile("latents", b"latents %d" % index, index=index) for index in range(2)]
SHEET = ProducedFile("sheet", b"all of them", "png")
FILES = [FileRecord.of(JOB, file) for file in (*LATENTS, SHEET)]

Make = Callable[..., Manifest]
Faults = Callable[[Any], str]


@pytest.fixture(scope="module")
def made(models: Models) -> Make:
    """A manifest of two images, of which those in `pictures` have a picture."""

    class Holder:
        model = models("sdxl")

    def make(files: list[FileRecord], pictures: tuple[int, ...] = (0, 1)) -> Manifest:
        image = photo(1)
        data = encode(image, "png", "")[0]
        records = [ImageRecord.of(JOB, index, 5 + index, image, data, "image/png") for index in pictures]
        request = ask(Holder, seed=None, seeds=[5, 6])  # type: ignore[arg-type]
        return make_manifest(JOB, request, models("sdxl"), records, {}, files=files)

    return make


@pytest.fixture
def parsed(models: Models) -> Callable[[bytes], Manifest]:
    entry = models("sdxl").entry
    return lambda data: parse_manifest(data, {entry.name: entry})


@pytest.fixture
def table(made: Make) -> dict[str, Any]:
    return json.loads(made(FILES).to_bytes())  # type: ignore[no-any-return]


def test_files_come_back(made: Make, parsed: Callable[[bytes], Manifest]) -> None:
    manifest = made(FILES)
    again = parsed(manifest.to_bytes())
    assert again == manifest and again.to_bytes() == manifest.to_bytes()
    assert [file.key for file in again.files] == [
        f"{JOB}/latents-0-{sha256(b'latents 0').hexdigest()[:16]}.safetensors",
        f"{JOB}/latents-1-{sha256(b'latents 1').hexdigest()[:16]}.safetensors",
        f"{JOB}/sheet-{sha256(b'all of them').hexdigest()[:16]}.png",
    ]


def test_a_manifest_without_files_has_no_such_field(made: Make, parsed: Callable[[bytes], Manifest]) -> None:
    """Readers of before take no field that they do not know; and theirs are read here."""
    data = made([]).to_bytes()
    assert "files" not in json.loads(data)
    assert parsed(data).files == []


def test_an_image_may_have_files_alone(made: Make, parsed: Callable[[bytes], Manifest]) -> None:
    assert [image.index for image in parsed(made(FILES, (1,)).to_bytes()).images] == [1]
    assert parsed(made(FILES, ()).to_bytes()).images == []
    with pytest.raises(ValueError, match="image 1 is missing"):
        made([FILES[0], FILES[2]], (0,))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("files.0.role", "manifest", "files.0.role"),
        ("files.0.role", "a-b", "files.0.role"),
        ("files.0.role", "mask", "file mask.0 has the key"),
        ("files.0.index", 1, "file latents.1 is listed twice"),
        ("files.0.index", None, "file latents has the key"),
        ("files.0.index", 9, "file latents.9 is of an image that was not asked for"),
        ("files.0.index", -1, "files.0.index"),
        ("files.0.index", True, "files.0.index"),
        ("files.0.sha256", "b" * 64, f"its own is '{JOB}/latents-0-bbbbbbbbbbbbbbbb.safetensors'"),
        ("files.0.sha256", "A" * 64, "files.0.sha256"),
        ("files.0.key", "/etc/passwd", "files.0.key"),
        ("files.0.key", f"{JOB}/../x.png", "files.0.key"),
        ("files.0.key", "another-job/latents-0-0123456789abcdef.safetensors", "file latents.0 has the key 'another"),
        ("files.2.content_type", "text/html", "file sheet is 'text/html', a .png file is 'image/png'"),
        ("files.0.bytes", 0, "files.0.bytes"),
        ("files.0.calls", "8:2;", "files.0.calls"),
        ("files.0.surprise", 1, "files.0.surprise"),
        ("files", {}, "files"),
        ("files", [{}] * 1025, "files"),
        ("job_id", "another-job", "its own is 'another-job/sheet-"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(
    table: dict[str, Any], parsed: Callable[[bytes], Manifest], path: str, value: Any, named: str
) -> None:
    *parents, last = path.split(".")
    place: Any = table
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    with pytest.raises(ManifestInvalid) as raised:
        parsed(json.dumps(table).encode())
    assert named in raised.value.message


def test_an_ending_of_no_known_type_is_refused(table: dict[str, Any], parsed: Callable[[bytes], Manifest]) -> None:
    table["files"][2]["key"] = table["files"][2]["key"].replace(".png", ".exe")
    with pytest.raises(ManifestInvalid, match=r"a \.exe file is None"):
        parsed(json.dumps(table).encode())


def store_of(objects: Mapping[str, bytes]) -> Callable[[str], bytes]:
    def load(key: str) -> bytes:
        if key not in objects:
            raise ObjectNotFound(f"nothing lies under {key}")
        return objects[key]

    return load


STORED = {record.key: file.data for record, file in zip(FILES, (*LATENTS, SHEET), strict=True)}


def test_files_that_are_made_again_equal() -> None:
    found = [
        *compared_files(FILES, 0, LATENTS[:1], store_of(STORED)),
        *compared_files(FILES, 1, LATENTS[1:], store_of(STORED)),
        *compared_files(FILES, None, [SHEET], store_of(STORED)),
    ]
    assert [(one.role, one.index, one.bit_equal, one.equal) for one in found] == [
        ("latents", 0, True, True),
        ("latents", 1, True, True),
        ("sheet", None, True, True),
    ]


@pytest.mark.parametrize("again", [[], [ProducedFile("latents", b"others")], [ProducedFile("mask", b"latents 0")]])
def test_files_that_are_not_made_again(again: list[ProducedFile]) -> None:
    (found,) = compared_files(FILES, 0, again, store_of(STORED))
    assert (found.bit_equal, found.equal, found.faults) == (False, False, ())


def test_a_file_that_is_not_stored_as_recorded() -> None:
    spoilt = {**STORED, FILES[2].key: b"all of thee"}
    (found,) = compared_files(FILES, None, [SHEET], store_of(spoilt))
    assert (found.bit_equal, found.equal, [fault.field for fault in found.faults]) == (
        True,
        False,
        ["files.sheet.sha256"],
    )
    (gone,) = compared_files(FILES, 1, LATENTS[1:], store_of({}))
    assert [str(fault) for fault in gone.faults] == [
        f"files.latents.1.key: recorded {FILES[1].key}, now object_not_found"
    ]


def test_samples_are_apart_from_images(made: Make, parsed: Callable[[bytes], Manifest]) -> None:
    assert "samples" not in json.loads(made([]).to_bytes())
    image = photo(1)
    sample = SampleRecord.of(JOB, 3, 50, "a dotty star", 7, image, encode(image, "png", "")[0])
    manifest = made([]).model_copy(update={"samples": [sample]})
    assert parsed(manifest.to_bytes()).samples == [sample]
    assert [record.index for record in manifest.images] == [0, 1]
    told = json.loads(manifest.to_bytes())
    told["samples"] = [*told["samples"], {**told["samples"][0], "key": "other/3-0000000000000000.png"}]
    with pytest.raises(ManifestInvalid, match=r"sample 3 is listed twice; sample 3 has the key 'other/3") as caught:
        parsed(json.dumps(told).encode())
    assert "image" not in str(caught.value)
