"""Manifests: made from what ran, and hostile until checked."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from darkroom.tasks.catalogue import Family, builtin_catalogue
from darkroom.worker.errors import ManifestInvalid
from darkroom.worker.images.manifest import MAX_BYTES, MAX_FAULTS, ImageRecord, Manifest, make_manifest, parse_manifest
from darkroom.worker.images.pictures import encode
from darkroom.worker.images.records import SchedulerRecord, scheduler_record_of
from tests.unit.worker.conftest import FAMILIES, Models, photo

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Table = dict[str, Any]


@pytest.fixture(scope="module")
def manifest(models: Models) -> Manifest:
    from tests.unit.worker.conftest import ask

    class Holder:
        model = models("sdxl")

    request = ask(Holder, seed=None, seeds=[5, 6], negative_prompt="", image="inputs/default/it.png", strength=0.5)  # type: ignore[arg-type]
    image = photo(1)
    data = encode(image, "png", "")[0]
    records = [ImageRecord.of("0197-job", i, s, image, data, "image/png", "3x8:2 2x2:0") for i, s in enumerate([5, 6])]
    times = {"started_at": 1.5e9, "generate": 2.25}
    return make_manifest("0197-job", request, models("sdxl"), records, times, inputs_sha256={"image": "a" * 64})


@pytest.fixture
def table(manifest: Manifest) -> Table:
    return json.loads(manifest.to_bytes())  # type: ignore[no-any-return]


@pytest.fixture
def faults(models: Models) -> Callable[[Any], str]:
    entry = models("sdxl").entry

    def read(data: Any) -> str:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        with pytest.raises(ManifestInvalid) as raised:
            parse_manifest(raw, {**builtin_catalogue(), entry.name: entry})
        return raised.value.message

    return read


def put(table: Table, path: str, value: Any) -> Table:
    *parents, last = path.split(".")
    place: Any = table
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return table


def test_it_comes_back_from_its_bytes_as_it_was(manifest: Manifest, models: Models) -> None:
    entry = models("sdxl").entry
    again = parse_manifest(manifest.to_bytes(), {entry.name: entry})
    assert again == manifest
    assert again.to_bytes() == manifest.to_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_schedulers_record_comes_back(manifest: Manifest, models: Models, family: Family) -> None:
    """DPM++'s config has an infinity, which is no JSON."""
    model = models(family)
    for name in model.entry.schedulers:
        again = manifest.model_copy(update={"scheduler": scheduler_record_of(model, name)})
        assert SchedulerRecord.model_validate(json.loads(again.to_bytes(), parse_constant=pytest.fail)["scheduler"])


def test_the_largest_request_comes_back_too(manifest: Manifest, models: Models) -> None:
    entry = models("sdxl").entry
    nested: Any = [1] * 100_000
    for _ in range(48):
        nested = [nested]
    request = manifest.request.model_copy(update={"metadata": {"l": nested}})
    largest = manifest.model_copy(update={"request": request})
    assert parse_manifest(largest.to_bytes(), {entry.name: entry}) == largest


def test_it_names_all_that_the_bits_depend_on(table: Table, models: Models) -> None:
    model = models("sdxl")
    assert table["model"] == {
        "name": "tiny-sdxl",
        "family": "sdxl",
        "revision": "local",
        "digests": model.digests,
    }
    assert len(table["model"]["digests"]) > 8
    assert table["scheduler"]["id"] == "euler" and table["scheduler"]["class"] == "EulerDiscreteScheduler"
    assert table["scheduler"]["config"]["beta_schedule"] == "scaled_linear"
    assert (table["dtype"], table["memory"]) == ("float32", "full")
    assert {"threads", "cpu_capability", "torch", "diffusers", "transformers"} <= set(table["environment"])
    assert table["request"]["negative_prompt"] == "" and table["seeds"] == [5, 6]
    assert table["inputs_sha256"] == {"image": "a" * 64}
    assert table["images"][0]["pixels_sha256"] != table["images"][0]["sha256"]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("version", 2, "version"),
        ("job_id", "../../etc", "job_id"),
        ("surprise", 1, "surprise"),
        ("model.name", "Robert'); DROP", "model.name"),
        ("model.name", "unheard-of", "unheard-of"),
        ("model.family", "flux", "model.family"),
        ("model.digests", {"unet/model.safetensors": "abc"}, "model.digests"),
        ("model.digests", {str(i): "a" * 64 for i in range(1001)}, "model.digests"),
        ("scheduler.id", "os.system", "scheduler.id"),
        ("scheduler.id", "ddim", "the scheduler is 'ddim'"),
        ("scheduler.id", 7, "scheduler.id"),
        ("scheduler.config", "x", "scheduler.config"),
        ("dtype", "float64", "dtype"),
        ("memory", "swap", "memory"),
        ("environment", {"threads": [1]}, "environment"),
        ("times", {"generate": "soon"}, "times"),
        ("seeds", [5, 7], "other seeds"),
        ("seeds", [-1], "seeds.0"),
        ("images.0.seed", 6, "image 0 has a seed"),
        ("images.1.index", 0, "image 0 is listed twice; image 1 is missing"),
        ("images.0.index", 9, "image 9 was not asked for"),
        ("images", [], "image 0 is missing; image 1 is missing"),
        ("request.num_images", 3, "2 seeds for 3 images"),
        ("request.num_images", None, "the request is for None images, there are 2 seeds"),
        ("images.0.key", "another-job/0-0123456789abcdef.png", "image 0 has the key 'another-job/0-0123456789abcdef"),
        ("images.0.key", "0197-job/0-0123456789abcdef.png", "image 0 has the key"),
        ("images.0.sha256", "b" * 64, "its own is '0197-job/0-bbbbbbbbbbbbbbbb.png'"),
        ("images.0.content_type", "image/webp", "image 0 is image/webp, the request is for png"),
        ("job_id", "another-job", "its own is 'another-job/0-"),
        ("images.0.width", 10**9, "images.0.width"),
        ("images.0.width", True, "images.0.width"),
        ("images.0.key", "/etc/passwd", "images.0.key"),
        ("images.0.key", "job/../other/0.png", "images.0.key"),
        ("images.0.key", "file:///etc/passwd", "images.0.key"),
        ("images.0.sha256", "A" * 64, "images.0.sha256"),
        ("images.0.content_type", "text/html", "images.0.content_type"),
        ("images.0.calls", "8:2;", "images.0.calls"),
        ("images.0.calls", "8:2 " * 30_000 + "8:2", "images.0.calls"),
        ("images.0.calls", None, "images.0.calls"),
        ("request.width", 10**6, "width"),
        ("request.width", 4096, "request.width"),
        ("request.num_inference_steps", 10**5, "num_inference_steps"),
        ("request.num_inference_steps", 900, "request.num_inference_steps"),
        ("request.guidance_scale", 31, "guidance_scale"),
        ("request.strength", -0.1, "strength"),
        ("request.prompt", "", "prompt"),
        ("request.prompt", "x" * 5000, "request.prompt"),
        ("request.scheduler", "edm_euler", "the request is for 'edm_euler'"),
        ("request.model", "sdxl", "the request is for 'sdxl'"),
        ("request.seeds", list(range(300)), "seeds"),
        ("request.kind", "upscale", "kind"),
        ("request.evil", 1, "evil"),
        ("request", [], "request"),
        ("inputs_sha256", {"image": ""}, "inputs_sha256.image"),
    ],
)
def test_what_is_wrong_is_named(table: Table, faults: Callable[[Any], str], path: str, value: Any, named: str) -> None:
    assert named in faults(put(table, path, value))


def test_every_fault_is_named_at_once(table: Table, faults: Callable[[Any], str]) -> None:
    for path, value in [("dtype", "x"), ("job_id", ""), ("images.1.bytes", 0), ("request.strength", 2)]:
        put(table, path, value)
    message = faults(table)
    assert all(name in message for name in ("dtype", "job_id", "images.1.bytes", "strength"))


def test_of_very_many_faults_the_rest_is_counted(table: Table, faults: Callable[[Any], str]) -> None:
    message = faults({**table, "seeds": [-1] * 50})
    assert message.count("seeds.") == MAX_FAULTS and "and 30 more" in message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff",
        b"null",
        b"[]",
        b"[" * 200_000,
        b'{"version": NaN}',
        b'{"version": ' + b"9" * 10_000 + b"}",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_manifest_at_all_is_said_shortly(faults: Callable[[Any], str], data: bytes) -> None:
    assert len(faults(data)) < 2000


def test_over_four_megabytes_nothing_is_read(faults: Callable[[Any], str]) -> None:
    assert "4000001 bytes" in faults(b" " * (MAX_BYTES + 1))


def test_a_faulty_number_is_no_traceback_of_pydantics(table: Table, faults: Callable[[Any], str]) -> None:
    message = faults(put(table, "request.guidance_scale", None) | {"times": {"generate": 1e999}})
    assert "pydantic" not in message and "Infinity" in message
