"""Prompts of every sort through a worker's process: what cannot be read, and frames between two."""

import io
from typing import Any

import pytest
from PIL import Image

from darkroom.tasks import State
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
    handle = at_work.submit(**fields, num_inference_steps=5, batching="solo")
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
