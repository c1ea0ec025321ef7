"""Latents through queue, worker and store: kept beside pictures or alone, and made of pictures."""

import io
import struct
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

from darkroom.tasks import InvalidRequest, Job, State
from darkroom.worker.delivery.runner import JobRunner

from .conftest import Desk, places_of
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


def pixels(job: Job) -> list[bytes]:
    return [Image.open(io.BytesIO(one.read())).tobytes() for one in job.images]


def test_latents_beside_pictures_and_instead_of_them(at_work: Studio) -> None:
    plain = at_work.run(seeds=[5, 6], batching="solo")
    both = at_work.run(seeds=[5, 6], batching="solo", output=BOTH)
    alone = at_work.run(seeds=[5, 6], batching="solo", output=["latents"])
    assert (both.state, both.needs, alone.state) == (State.SUCCEEDED, ["output"], State.SUCCEEDED)
    assert pixels(plain) == pixels(both) and len(pixels(both)) == 2 and alone.images == []
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
    has = {"tiny-sdxl": ["kind:encode"]}
    JobRunner(replace(desk.around, has=has, places=places_of(desk.io, has)))(job_id)
    job = desk.client.get(job_id)
    assert (job.state, job.result) == (State.CANCELED, None)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_a_later_job_begins_with_latents(at_work: Studio, strength: float) -> None:
    made = at_work.run(seeds=[5], batching="solo", output=BOTH)
    decoded = bare(at_work, kind="decode", image=made.files[0].key)
    assert (decoded.state, decoded.seeds, decoded.files, decoded.error) == (State.SUCCEEDED, [], [], None)
    assert pixels(decoded) == pixels(made)
    again = at_work.run(image=made.files[0].key, seed=7, strength=strength, output=BOTH)
    uploaded = at_work.run(image=at_work.client.upload(made.files[0].read()), seed=7, strength=strength, output=BOTH)
    assert pixels(again) == pixels(uploaded)
    assert again.files[0].sha256 == uploaded.files[0].sha256
    assert (pixels(again) == pixels(made)) == (strength == 0.0)
    assert again.result is not None
    assert made.files[0].sha256.encode() in at_work.store.get(again.result.manifest)


def test_latents_that_do_not_fit_end_their_job_alone(at_work: Studio) -> None:
    made = at_work.run(seeds=[5], output=BOTH, tenant="alice")
    key, picture = made.files[0].key, made.images[0].key
    foreign = at_work.client.upload(save({"latents": torch.zeros(1, 4, 8, 8)}, {"darkroom": '{"family": "sd"}'}))
    nan = "inputs/default/nan.safetensors"
    at_work.store.put(nan, save({"latents": torch.full((1, 4, 8, 8), torch.nan)}), content_type="x")
    fake = "inputs/default/fake.safetensors"
    at_work.store.put(fake, png(), content_type="x")
    for fields, code in (
        ({"image": key}, "input_forbidden"),
        ({"image": foreign}, "input_unfit"),
        ({"image": nan}, "input_corrupt"),
        ({"image": fake}, "input_not_latents"),
        ({"image": "inputs/default/gone.safetensors"}, "input_missing"),
    ):
        job = bare(at_work, kind="decode", **fields)
        assert job.error is not None and (job.state, job.error.code, job.error.callers_fault) == (
            State.FAILED,
            code,
            True,
        )
    with pytest.raises(InvalidRequest, match=r"no \.safetensors file"):
        bare(at_work, kind="decode", image=picture, tenant="alice")
    with pytest.raises(InvalidRequest, match="file of another kind"):
        bare(at_work, kind="encode", image=key, tenant="alice")
    with pytest.raises(InvalidRequest, match="header"):
        at_work.client.upload(struct.pack("<Q", 2**40) + b"{" * 100)
    size = at_work.run(image=key, tenant="alice", width=128, height=64)
    assert size.error is not None and size.error.code == "input_unfit"
    assert at_work.run(image=key, tenant="alice").state is State.SUCCEEDED
