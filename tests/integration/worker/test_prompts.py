"""Prompts of every sort through a worker's process: what cannot be read, and frames between two."""

import io
import struct
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

from darkroom.tasks import InvalidRequest, Job, State
from tests.integration.worker.processes import Process
from tests.integration.worker.studio import Studio


@pytest.fixture
def at_work(studio: tuple[Studio, Process]) -> Studio:
    return studio[0]


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"prompt": "a (red fox", "prompt_syntax": "compel"}, "prompt_syntax", "prompt: at character 3, '(red fox'"),
        ({"negative_prompt": "(a:1.2)", "prompt_syntax": "compel"}, "prompt_syntax", "negative_prompt: at character 1"),
        ({"clip_skip": 31}, "invalid_request", "clip_skip: .* at most"),
    ],
)
def test_what_cannot_be_read_is_the_callers_fault_and_not_tried_again(
    at_work: Studio, fields: dict[str, Any], code: str, said: str
) -> None:
    job = at_work.run(**fields)
    assert job.error is not None
    assert (job.state, job.error.code, job.error.callers_fault) == (State.FAILED, code, True)
    assert said.split(".*")[0] in job.error.message and said.split(".*")[-1] in job.error.message
    assert len(job.attempts) == 0
    assert at_work.run(num_inference_steps=1).state is State.SUCCEEDED


def test_frames_are_pictures_with_seeds_and_progress(at_work: Studio) -> None:
    fields: dict[str, Any] = {"kind": "interpolate", "frames": 4, "prompt_to": "the sea", "seed": 7, "seed_to": 9}
    handle = at_work.submit_watched(**fields, num_inference_steps=5, batching="solo")
    assert handle.seeds == [7, 7, 7, 9]
    events = at_work.until(handle, "job.succeeded")
    last = [event.data for event in events if event.type == "job.progress" and event.data["step"] == 5]
    assert sorted((data["image"], data["of"]) for data in last) == [(index, 5) for index in range(4)]
    job = handle.get()
    made = [pixels(image.read()) for image in job.images]
    assert ([image.seed for image in job.images], len(set(made))) == ([7, 7, 7, 9], 4)
    assert b"Frame: 2 of 4" in job.images[1].read()
    for frame, prompt, seed in ((0, "a red fox", 7), (3, "the sea", 9)):
        plain = at_work.run(prompt=prompt, seed=seed, num_inference_steps=5, batching="solo")
        assert pixels(plain.images[0].read()) == made[frame]


def test_frames_are_canceled_in_the_middle(at_work: Studio) -> None:
    fields: dict[str, Any] = {"kind": "interpolate", "frames": 16, "seed": 1, "seed_to": 2, "num_inference_steps": 200}
    handle = at_work.submit(**fields)
    at_work.started(handle)
    assert handle.cancel() == "cancellation_requested"
    assert handle.wait(30).state is State.CANCELED


def embedded(at_work: Studio, **fields: Any) -> Job:
    asked = {"kind": "embed", "model": at_work.model, "prompt": "a red fox", **fields}
    return at_work.client.submit(asked).wait(60).raise_for_state()


def test_a_prompt_is_encoded_once_and_used_again(at_work: Studio) -> None:
    made = embedded(at_work, negative_prompt="fog")
    (file,) = made.files
    assert (made.images, made.seeds, file.place, made.progress) == ([], [], "embeddings/0", None)
    assert embedded(at_work, negative_prompt="fog").files[0].sha256 == file.sha256
    plain = at_work.run(negative_prompt="fog", seed=3, batching="solo")
    uploaded = at_work.client.upload(file.read())
    for key in (file.key, uploaded):
        job = at_work.client.submit({"model": at_work.model, "prompt_embeds": key, "seed": 3, "batching": "solo"}).wait(
            60
        )
        assert (job.state, job.error) == (State.SUCCEEDED, None)
        assert pixels(job.images[0].read()) == pixels(plain.images[0].read())
        assert job.result is not None
        assert f'"prompt_embeds": "{file.sha256}"' in at_work.store.get(job.result.manifest).decode()


def test_embeddings_that_do_not_fit_end_their_job_alone(at_work: Studio) -> None:
    (file,) = embedded(at_work, tenant="alice").files
    tensors = load(file.read())
    foreign = at_work.client.upload(save(tensors, {"darkroom": '{"family": "sd"}'}))
    unguided = embedded(at_work, guidance_scale=1.0).files[0].key
    nan = "inputs/default/nan.safetensors"
    at_work.store.put(nan, save({"prompt_embeds": torch.full((1, 77, 80), torch.nan)}), content_type="x")
    bomb = "inputs/default/bomb.safetensors"
    at_work.store.put(bomb, struct.pack("<Q", 2**40) + b"{" * 100, content_type="x")
    latents = "inputs/default/latents.safetensors"
    at_work.store.put(latents, save({"latents": torch.zeros(1, 4, 8, 8)}), content_type="x")
    for key, code in (
        (file.key, "input_forbidden"),
        (foreign, "input_unfit"),
        (unguided, "input_unfit"),
        (nan, "input_corrupt"),
        (bomb, "input_corrupt"),
        (latents, "input_not_embeddings"),
        ("inputs/default/gone.safetensors", "input_missing"),
    ):
        job = at_work.client.submit({"model": at_work.model, "prompt_embeds": key}).wait(60)
        assert job.error is not None, key
        assert (job.state, job.error.code, job.error.callers_fault) == (State.FAILED, code, True)
    with pytest.raises(InvalidRequest, match="header"):
        at_work.client.upload(struct.pack("<Q", 2**40) + b"{" * 100)
    assert at_work.run(num_inference_steps=1).state is State.SUCCEEDED
