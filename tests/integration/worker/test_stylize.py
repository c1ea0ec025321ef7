"""Pictures in the style of others from submit to stored picture, and what of a style only a worker can refuse."""

import hashlib
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from darkroom.cli.pictures import with_upload
from darkroom.storage import ObjectStore
from darkroom.tasks import InvalidRequest, Job, State, TaskSettings
from darkroom.tasks.catalogue import ModelEntry
from darkroom.worker.adapters.adapters import Adapters
from darkroom.worker.batching.engine import Engine
from darkroom.worker.errors import ManifestInvalid
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import Manifest, parse_manifest
from darkroom.worker.images.replay import Replay
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings
from tests.styles import in_processors
from tests.unit.worker.conftest import photo
from tests.unit.worker.kinds.painting import file_of

from .conftest import Desk, open_desk
from .test_bad_input import bomb


@pytest.fixture(scope="module")
def styled(entry: ModelEntry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generator]:
    with Engine(1) as engine:
        model = load_model(entry, Placement(torch.device("cpu"), torch.float32, "full", 1), WorkerSettings())
        styles = in_processors(model, tmp_path_factory.mktemp("style"), engine)
        yield Generator(model, engine, Adapters.of(model, engine, styles=styles))


@pytest.fixture
def desk(task_settings: TaskSettings, styled: Generator, store: ObjectStore) -> Iterator[Desk]:
    with open_desk(task_settings, styled, store) as desk:
        yield desk


def run(desk: Desk, *styles: Any, **fields: Any) -> Job:
    return desk.run(kind="stylize", styles=list(styles), **fields)


def manifest_of(desk: Desk, job: Job) -> Manifest:
    assert job.state is State.SUCCEEDED and job.result, job.error
    catalogue = {name: generator.model.entry for name, generator in desk.around.generators.items()}
    return parse_manifest(desk.store.get(job.result.manifest), catalogue)


def test_what_a_job_leaves_and_a_replay_of_it(desk: Desk, styled: Generator) -> None:
    one, other = (desk.client.upload(file_of(photo(seed))) for seed in (3, 4))
    source = desk.client.upload(file_of(photo(5, 64, 64)))
    job = run(desk, f"{one}:2", other, image=source, strength=0.9, layout_scale=0.5, num_images=2)
    assert job.needs == ["kind:stylize", "layout_scale"]
    text = Image.open(BytesIO(job.images[0].read())).info["parameters"]
    assert "Denoising strength: 0.9, Style pictures: 2, Style scale: 1, Layout scale: 0.5" in text
    manifest = manifest_of(desk, job)
    named = {"image": source, "styles.0.image": one, "styles.1.image": other}
    digests = {name: hashlib.sha256(desk.store.get(key)).hexdigest() for name, key in named.items()}
    assert manifest.inputs_sha256 == digests
    assert manifest.style and manifest.style.name == "tiny-style"
    assert (manifest.style.style_scale, manifest.style.layout_scale) == (1.0, 0.5)
    again = Replay(manifest, styled, desk.store.get)
    assert all(image.equal for image in again.images())
    assert again.differences == []


def test_a_replay_tells_of_another_adapter(desk: Desk, styled: Generator) -> None:
    manifest = manifest_of(desk, run(desk, desk.client.upload(file_of(photo()))))
    assert manifest.style
    other = manifest.model_copy(update={"style": manifest.style.model_copy(update={"revision": "0" * 40})})
    again = Replay(other, styled, desk.store.get)
    assert [one.field for one in again.differences] == ["style.revision"]


def test_a_plain_job_says_nothing_of_styles(desk: Desk) -> None:
    job = desk.run()
    assert job.result and b"style" not in desk.store.get(job.result.manifest)


@pytest.mark.parametrize(
    ("picture", "code"), [("inputs/default/aa-0123456789abcdef.png", "input_missing"), ("bomb", "input_bomb")]
)
def test_a_picture_that_cannot_be_read_is_named(desk: Desk, picture: str, code: str, tmp_path: Path) -> None:
    good = desk.client.upload(file_of(photo()))
    if picture == "bomb":
        picture = "inputs/default/aa-0123456789abcdef.png"
        desk.store.put(picture, bomb(), content_type="image/png")
    job = run(desk, good, picture)
    assert job.state is State.FAILED and job.error
    assert (job.error.code, job.error.message[:15]) == (code, "styles.1.image:")
    assert run(desk, good).state is State.SUCCEEDED


def test_a_picture_of_another_tenant_is_refused(desk: Desk) -> None:
    foreign = desk.client.upload(file_of(photo()), tenant="alice")
    with pytest.raises(InvalidRequest, match=r"styles\.0\.image: is not among the inputs of tenant default"):
        run(desk, foreign)


def test_a_model_without_an_adapter_refuses_it(
    task_settings: TaskSettings, generator: Generator, store: ObjectStore
) -> None:
    refused = pytest.raises(InvalidRequest, match="kind: tiny-sdxl does txt2img")
    with open_desk(task_settings, generator, store) as desk, refused:
        run(desk, desk.client.upload(file_of(photo())))


def test_a_file_of_this_machine_is_uploaded(desk: Desk, tmp_path: Path) -> None:
    path, key = tmp_path / "it.png", desk.client.upload(file_of(photo(1)))
    path.write_bytes(file_of(photo(2)))
    (tmp_path / "notes.txt").write_text("no picture")
    asked = {"kind": "stylize", "prompt": "a", "styles": [f"{path}:0.5", key, {"image": str(path), "weight": 3.0}]}
    found = with_upload(asked, desk.client)
    uploaded = desk.client.upload(path)
    assert found["styles"] == [{"image": uploaded, "weight": 0.5}, {"image": key}, {"image": uploaded, "weight": 3.0}]
    with pytest.raises(InvalidRequest, match=r"styles\.1\.image: .*away\.png is no file here"):
        with_upload({**asked, "styles": [key, str(tmp_path / "away.png")]}, desk.client)
    with pytest.raises(InvalidRequest, match=r"styles\.0\.image: the input is something else"):
        with_upload({**asked, "styles": str(tmp_path / "notes.txt")}, desk.client)


def test_a_manifest_of_a_style_needs_one(desk: Desk) -> None:
    job = run(desk, desk.client.upload(file_of(photo())))
    assert job.result
    text = desk.store.get(job.result.manifest)
    catalogue = {name: generator.model.entry for name, generator in desk.around.generators.items()}
    with pytest.raises(ManifestInvalid, match="`style` has other scales than the request"):
        parse_manifest(text.replace(b'"style_scale": 1.0', b'"style_scale": 0.5'), catalogue)
    without = {name: value for name, value in json.loads(text).items() if name != "style"}
    with pytest.raises(ManifestInvalid, match="the request has styles, without `style`"):
        parse_manifest(json.dumps(without).encode(), catalogue)
