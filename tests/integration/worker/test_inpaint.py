"""Inpainting from submit to stored picture, and every input that only a worker can refuse."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkroom.storage import ObjectStore, StorageSettings
from darkroom.storage.inputs import read_input
from darkroom.tasks import Job, State
from darkroom.worker.images.manifest import parse_manifest
from darkroom.worker.images.replay import Replay
from tests.unit.worker.kinds.painting import file_of, spot

from .conftest import Desk

SIZE = (61, 47)
PICTURE = Image.effect_noise(SIZE, 90).convert("RGB")


def run(desk: Desk, image: Any = PICTURE, mask: Any = None, tenant: str = "default", **fields: Any) -> Job:
    """A job of these pictures, or of these references."""
    files = {"image": image, "mask": mask}
    named = {
        name: desk.client.upload(file_of(one), tenant=tenant) if isinstance(one, Image.Image) else one
        for name, one in files.items()
        if one is not None
    }
    return desk.run(kind="inpaint", tenant=tenant, mask_blur=2, **named, **fields)


def picture_of(job: Job, index: int = 0) -> "np.ndarray[Any, Any]":
    assert job.state is State.SUCCEEDED, job.error
    return np.asarray(Image.open(BytesIO(job.images[index].read())))


def test_what_a_job_leaves(desk: Desk) -> None:
    job = run(desk, mask=spot(SIZE), num_images=2, padding=4)
    assert job.needs == ["kind:inpaint", "mask", "mask_blur", "padding", "work_size"]
    for index in (0, 1):
        made = picture_of(job, index)
        assert made.shape == (47, 61, 3) and (made[30:] == np.asarray(PICTURE)[30:]).all()
    assert not np.array_equal(picture_of(job, 0), picture_of(job, 1))
    assert "Mask blur: 2" in Image.open(BytesIO(job.images[0].read())).info["parameters"]


def load(store: ObjectStore, reference: str) -> bytes:
    settings = StorageSettings()
    return read_input(reference, tenant="default", store=store, settings=settings, owns_output=lambda _: True)


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_replay_makes_the_same_bits(desk: Desk, form: str) -> None:
    """Its manifest names the digests of both inputs."""
    for fields in ({"mask": spot(SIZE)}, {"extend": {"left": 16}}, {"mask": spot(SIZE), "padding": 3}):
        job = run(desk, output_format=form, scheduler="euler_a", **fields)
        assert job.state is State.SUCCEEDED and job.result
        generator = desk.around.generators["tiny-sdxl"]
        manifest = parse_manifest(desk.store.get(job.result.manifest), {"tiny-sdxl": generator.model.entry})
        assert set(manifest.inputs_sha256) == {"image", *(["mask"] if "mask" in fields else [])}
        again = Replay(manifest, generator, lambda reference: load(desk.store, reference))
        assert [one.equal for one in again.images()] == [True] and again.differences == []


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"mask": Image.new("L", SIZE)}, "mask_empty", "marks no pixel"),
        ({"mask": spot((47, 61))}, "mask_unfit", "other proportions"),
        ({"mask": "inputs/default/none.png"}, "input_missing", "mask: "),
        ({"image": "inputs/default/none.png", "mask": spot(SIZE)}, "input_missing", "image: "),
    ],
)
def test_what_cannot_be_is_the_callers_to_mend(desk: Desk, fields: dict[str, Any], code: str, said: str) -> None:
    job = run(desk, **fields)
    assert job.error is not None
    assert (job.state, job.error.code, job.error.callers_fault, job.attempts) == (State.FAILED, code, True, [])
    assert said in job.error.message
    assert run(desk, mask=spot(SIZE)).state is State.SUCCEEDED


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "input_not_an_image"),
        (file_of(spot(SIZE))[:-30], "input_corrupt"),
        (file_of(Image.new("L", (7000, 7000))), "input_bomb"),
        (b"", "input_not_an_image"),
    ],
    ids=["gif", "cut", "bomb", "empty"],
)
def test_a_mask_that_is_no_usable_picture(desk: Desk, data: bytes, code: str) -> None:
    desk.store.put("inputs/default/bad.png", data, content_type="image/png")
    job = run(desk, mask="inputs/default/bad.png")
    assert job.error is not None
    assert (job.error.code, job.error.callers_fault) == (code, True) and job.error.message.startswith("mask: ")


def test_another_tenants_result_is_no_mask(desk: Desk) -> None:
    theirs = run(desk, mask=spot(SIZE), tenant="acme").images[0].key
    job = run(desk, mask=theirs)
    assert job.error is not None
    assert (job.error.code, job.error.message.startswith("mask: ")) == ("input_forbidden", True)
    assert run(desk, mask=theirs, tenant="acme", mask_channel="luminance").state is State.SUCCEEDED
