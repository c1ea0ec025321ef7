"""Latents through queue, worker and store: kept beside pictures or alone, and made of pictures."""

import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load

from darkroom.tasks import Job, State
from darkroom.worker.delivery.runner import JobRunner

from .conftest import Desk
from .processes import Process
from .studio import Studio

BOTH = ["image", "latents"]


@pytest.fixture
def at_work(studio: tuple[Studio, Process]) -> Studio:
    return studio[0]


def bare(studio: Studio, **fields: Any) -> Job:
    """A job of a kind that has no prompt."""
    return studio.client.submit({"model": studio.model, **fields}).wait(60)


def png(seed: int = 0) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 64), 40 + seed).convert("RGB").save(out, "PNG")
    return out.getvalue()


def test_latents_beside_pictures_and_instead_of_them(at_work: Studio) -> None:
    plain = at_work.run(seeds=[5, 6], batching="solo")
    both = at_work.run(seeds=[5, 6], batching="solo", output=BOTH)
    alone = at_work.run(seeds=[5, 6], batching="solo", output=["latents"])
    assert (both.state, both.needs, alone.state) == (State.SUCCEEDED, ["output"], State.SUCCEEDED)
    pixels = [[Image.open(io.BytesIO(one.read())).tobytes() for one in job.images] for job in (plain, both)]
    assert pixels[0] == pixels[1] and len(pixels[0]) == 2 and alone.images == []
    assert [file.place for file in both.files] == [file.place for file in alone.files] == ["latents/0", "latents/1"]
    assert [file.sha256 for file in both.files] == [file.sha256 for file in alone.files]
    assert load(both.files[1].read())["latents"].shape == (1, 4, 8, 8)


def test_encoding_has_no_prompt_seed_or_steps(at_work: Studio) -> None:
    key = at_work.client.upload(png())
    one, other = (bare(at_work, kind="encode", image=key) for _ in range(2))
    assert (one.state, one.seeds, one.images, one.progress) == (State.SUCCEEDED, [], [], None)
    assert [file.place for file in one.files] == ["latents/0"]
    assert one.files[0].sha256 == other.files[0].sha256
    larger = bare(at_work, kind="encode", image=key, width=128, height=64)
    assert load(larger.files[0].read())["latents"].shape == (1, 4, 8, 16)


def test_a_job_without_steps_is_canceled_before_it_makes_anything(desk: Desk) -> None:
    """Its owner stops it while the picture is on its way to the store."""
    key = desk.client.upload(png())
    job_id = desk.client.submit({"kind": "encode", "model": "tiny-sdxl", "image": key}).id

    def cancel(_key: str) -> None:
        desk.client.cancel(job_id)

    desk.store.before_put = cancel
    JobRunner(replace(desk.around, has={"tiny-sdxl": ["kind:encode"]}))(job_id)
    job = desk.client.get(job_id)
    assert (job.state, job.result) == (State.CANCELED, None)
