"""Requests in records that no submit of ours wrote: the worker looks at them again, and nothing is made of them."""

import json
import re
from typing import Any

import pytest
import redis

from darkroom.tasks import State, TaskSettings
from darkroom.worker.delivery.runner import JobRunner

from .conftest import Desk

PICTURE = f"inputs/default/{'a' * 64}.png"
GROUND = {"kind": "inpaint", "image": PICTURE, "extend": {"left": 8}}


@pytest.mark.parametrize(
    ("asked", "altered", "fields"),
    [
        ({}, {"width": 16_384, "height": 16_384}, ["width", "height", "width"]),
        ({}, {"width": 8, "height": 8}, ["width", "height"]),
        ({}, {"num_inference_steps": 900}, ["num_inference_steps"]),
        ({}, {"num_images": 200, "seeds": [1] * 200}, ["num_images"]),
        ({}, {"hires": {"scale": 4.0, "steps": 900}, "width": 512, "height": 512}, ["hires.scale", "hires.steps"]),
        ({}, {"hires": {"model": "other"}}, ["model"]),
        ({}, {"refiner": {"model": "tiny-sdxl"}}, ["refiner.model"]),
        ({}, {"seeds": None}, ["seeds"]),
        ({}, {"seeds": None, "num_images": 3}, ["seeds"]),
        ({}, {"scheduler": None, "width": None}, ["width", "scheduler"]),
        ({}, {"scheduler": "edm_euler"}, ["scheduler"]),
        ({}, {"model": "sdxl"}, ["model"]),
        ({}, {"model": None}, ["model"]),
        ({}, {"prompt": "x" * 9000}, ["prompt"]),
        ({}, {"denoising_end": 0.5}, ["denoising_end"]),
        (GROUND, {"extend": {"left": 640}, "width": 64, "height": 64}, ["extend"]),
        (GROUND, {"padding": 4, "work_size": [3, 3]}, ["work_size"] * 4),
        ({"kind": "interpolate", "prompt_to": "a dog", "frames": 2}, {"seed": None, "frames": 200}, ["seed", "frames"]),
    ],
)
def test_a_request_beyond_the_model_is_refused_before_it_is_run(
    desk: Desk,
    raw: "redis.Redis[str]",
    task_settings: TaskSettings,
    asked: dict[str, Any],
    altered: dict[str, Any],
    fields: list[str],
) -> None:
    job_id = desk.submit(width=64, height=64, **asked)
    record = f"{task_settings.redis_prefix}job:{job_id}"
    request = json.loads(raw.hget(record, "request") or "")
    raw.hset(record, "request", json.dumps(request | altered))
    JobRunner(desk.around)(job_id)
    job = desk.client.get(job_id)
    assert job.error is not None
    assert (job.state, job.error.code, job.error.callers_fault) == (State.FAILED, "invalid_request", True)
    assert re.findall(r"(?:^|; )([\w.]+): ", job.error.message) == fields, job.error.message
