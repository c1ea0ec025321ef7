"""A dry run of a training: it checks what a training checks, measures, and leaves nothing but an estimate."""

import json
from typing import Any

import pytest

from darkroom.tasks import Job, State
from darkroom.worker.training.session import Session
from darkroom.worker.training.taken import Taken
from tests.unit.worker.training.files import good, picture, zipped

from .conftest import Desk
from .test_finetune import lora_of, run, submit


def estimate_of(job: Job) -> dict[str, Any]:
    job.raise_for_state()
    (file,) = job.files
    found: dict[str, Any] = json.loads(file.read())
    assert (file.role, file.content_type) == ("estimate", "application/json")
    return found


def test_it_says_what_the_training_then_takes_and_leaves_nothing_else(desk: Desk) -> None:
    dataset = desk.client.upload(zipped(good(4)).getvalue())
    job = run(desk, submit(desk, dataset=dataset, dry_run=True))
    found = estimate_of(job)
    assert [item.key for item in desk.store.list(f"{job.id}/")] == job.object_keys
    assert not list(desk.store.list("loras/")) and not desk.client.loras()
    trained = lora_of(desk, run(desk, submit(desk, dataset=dataset)))  # the name is free
    assert found["lora_bytes"] == len(trained)
    assert found["checkpoint_bytes"] > 2 * found["lora_bytes"]  # AdamW's two moments, too
    assert sum(bucket["pictures"] for bucket in found["buckets"]) == found["pictures"] == 4
    assert (found["steps"], found["pictures_per_step"], found["epochs"]) == (6, 2, 3.0)
    assert found["seconds"] >= found["steps"] * found["seconds_per_step"] * 0.9 > 0
    assert 1 <= found["measured_steps"] <= 5
    assert found["memory_bytes"] >= found["checkpoint_bytes"] > 0 and found["memory_of"] == "process"


def test_more_rank_takes_more(desk: Desk) -> None:
    small, large = (estimate_of(run(desk, submit(desk, dry_run=True, rank=rank))) for rank in (2, 8))
    assert large["lora_bytes"] > 2 * small["lora_bytes"]


def test_class_pictures_count(desk: Desk) -> None:
    asked = {"class_prompts": ["a star"], "num_class_images": 30, "dry_run": True}
    job = run(desk, submit(desk, **asked))
    found = estimate_of(job)
    assert found["seconds"] > found["seconds_class_images"] > 0
    assert [item.key for item in desk.store.list(f"{job.id}/")] == job.object_keys


def test_samples_count_by_their_plan(desk: Desk) -> None:
    asked = {"sample_prompts": ["a star", "a circle"], "num_train_steps": 40, "dry_run": True}
    few, many = (estimate_of(run(desk, submit(desk, sample_every=every, **asked))) for every in (40, 1))
    assert many["seconds"] > many["seconds_samples"] > few["seconds_samples"] > 0  # 82 of them against 4
    job = run(desk, submit(desk, **asked))
    assert (job.images, job.object_keys) == ([], [item.key for item in desk.store.list(f"{job.id}/")])


def test_it_finds_all_that_is_wrong(desk: Desk) -> None:
    files = {**good(3), "a.png": b"\x89PNG\r\n\x1a\nno", "b.txt": b"caf\xe9", "b.png": picture(9)}
    job = run(desk, submit(desk, dataset=desk.client.upload(zipped(files).getvalue()), dry_run=True))
    assert job.error and (job.state, job.error.code) == (State.FAILED, "dataset_invalid")
    assert all(name in job.error.message for name in ("a.png", "b.txt"))
    run(desk, submit(desk)).raise_for_state()
    taken = run(desk, submit(desk, dry_run=True))
    assert taken.error and taken.error.code == "lora_name_taken"


def test_a_cancel_keeps_no_checkpoint(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, rehearse = submit(desk, dry_run=True), Session.rehearse

    def canceled(session: Session) -> Taken:
        desk.client.cancel(job_id)
        return rehearse(session)

    monkeypatch.setattr(Session, "rehearse", canceled)
    job = run(desk, job_id)
    assert (job.state, job.files, list(desk.store.list(f"{job_id}/"))) == (State.CANCELED, [], [])
    assert [event.data["step"] for event in desk.client.watch(job_id) if event.type == "job.progress"] == [1]
