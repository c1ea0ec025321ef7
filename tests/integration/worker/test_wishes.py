"""A training that is saved while it runs: it goes on, and what was wished is there once, whoever dies meanwhile."""

import itertools
import os
import signal
from collections.abc import Callable

import pytest
from safetensors import safe_open
from safetensors.torch import load

from darkroom.storage import ObjectStore
from darkroom.tasks import Job, State, WishNotSupported, claims
from darkroom.tasks.redis_io import Key, Operation, command

from .conftest import Desk
from .processes import Process
from .studio import Studio
from .test_finetune import TRAINING, interrupted, lora_of, matrices, run, submit, upload
from .test_samples import SAMPLED


def save(desk: Desk, job_id: str) -> Callable[[], object]:
    """What an owner does, and the next renewal of the lease."""
    return lambda: (desk.client.save_now(job_id), desk.around.leases.renew())


def sample(desk: Desk, job_id: str) -> Callable[[], object]:
    """Likewise."""
    return lambda: (desk.client.sample_now(job_id), desk.around.leases.renew())


def steps_of(job: Job) -> list[int | None]:
    return [image.step for image in job.images]


def snapshots(job: Job) -> list[str]:
    return [file.role for file in job.files if file.role.startswith("snapshot_")]


def test_the_lora_as_it_is_becomes_a_file_and_the_training_goes_on(desk: Desk, tmp_path: os.PathLike[str]) -> None:
    whole = lora_of(desk, run(desk, submit(desk)))
    job_id = submit(desk, overwrite=True)
    stored: list[str] = []
    interrupted(desk, save(desk, job_id), checkpoints=0)
    before = desk.store.before_put
    desk.store.before_put = lambda key: (stored.append(key.partition("/")[2].partition("-")[0]), before(key))[0]
    job = run(desk, job_id)
    assert [file.role for file in job.files] == ["lora", "loss", "snapshot_3"]
    assert stored[:6] == ["checkpoint", "checkpoint", "snapshot_3", "checkpoint", "lora", "loss"]
    assert load(lora_of(desk, job)).keys() == load(job.files[2].read()).keys()
    assert matrices(lora_of(desk, job)) == matrices(whole) != matrices(job.files[2].read())
    with safe_open(job.files[2].save(tmp_path), "pt") as file:
        assert file.metadata()["ss_steps"] == "3"
    told = [event.data["role"] for event in desk.client.watch(job_id) if event.type == "job.file"]
    assert told.count("snapshot_3") == 1


def test_each_wish_has_a_file_of_its_own(desk: Desk) -> None:
    job_id = submit(desk, num_train_steps=8, checkpoint_every=1)
    job = _wished_before(desk, save(desk, job_id), job_id, 1, 4)
    assert snapshots(job) == ["snapshot_2", "snapshot_5"]


def test_a_wish_that_comes_with_the_last_step_is_met_by_the_lora(desk: Desk) -> None:
    job_id = submit(desk)
    desk.store.before_put = lambda key: save(desk, job_id)() if "/lora-" in key else None
    job = run(desk, job_id)
    assert (job.state, snapshots(job)) == (State.SUCCEEDED, [])
    assert desk.client.save_now(job_id) == "already_finished"


def test_a_wish_whose_worker_was_gone_before_it_was_recorded_is_met_by_the_next(desk: Desk) -> None:
    job_id = submit(desk)
    interrupted(desk, save(desk, job_id), checkpoints=0)
    before = desk.store.before_put

    def taken(key: str) -> None:
        before(key)
        if "/snapshot_" in key:
            desk.store.before_put = lambda _: None
            _taken_back(desk, job_id)

    desk.store.before_put = taken
    assert run(desk, job_id).state is State.QUEUED
    job = run(desk, job_id)
    assert (job.state, job.claims, snapshots(job)) == (State.SUCCEEDED, 3, ["snapshot_3"])
    assert not _strays(desk.store, job)


def test_a_round_of_samples_is_made_when_it_is_wished(desk: Desk) -> None:
    job_id = submit(desk, **SAMPLED, num_train_steps=8, checkpoint_every=1)
    job = _wished_before(desk, sample(desk, job_id), job_id, 1)
    assert (steps_of(job).count(2), steps_of(job)[-2:], snapshots(job)) == (2, [2, 2], [])
    planned = submit(desk, **SAMPLED, num_train_steps=8, checkpoint_every=1, overwrite=True)
    assert steps_of(_wished_before(desk, sample(desk, planned), planned, 3)).count(4) == 2
    with pytest.raises(WishNotSupported, match="cannot be sampled"):
        desk.client.sample_now(submit(desk))


def test_a_round_that_another_worker_began_is_made_whole(desk: Desk) -> None:
    job_id = submit(desk, **SAMPLED, num_train_steps=8, checkpoint_every=1)
    interrupted(desk, sample(desk, job_id))
    before, images = desk.store.before_put, itertools.count()

    def taken(key: str) -> None:
        before(key)
        if key.endswith(".png") and next(images) == 3:  # after those of no step it is the second of the round
            desk.store.before_put = lambda _: None
            _taken_back(desk, job_id)

    desk.store.before_put = taken
    assert run(desk, job_id).state is State.QUEUED
    job = run(desk, job_id)
    assert (job.state, steps_of(job)) == (State.SUCCEEDED, [0, 0, 4, 4, 8, 8, 3, 3])
    assert not _strays(desk.store, job)


def test_a_wish_outlives_a_worker_that_is_killed(studio: tuple[Studio, Process]) -> None:
    shared, alone = studio[0], {"DARKROOM_LANES": "training"}
    with shared.worker(**alone) as first, shared.worker(**alone) as second:
        for worker in (first, second):
            worker.wait_for("worker.ready")
        asked = {"dataset": upload(shared), "num_train_steps": 12, "checkpoint_every": 3, "overwrite": True}
        handle = shared.client.submit({**TRAINING, **asked})
        name = shared.started(handle)
        assert handle.save_now() == "requested"
        os.kill(int(name.split(":")[1]), signal.SIGKILL)
        job = handle.wait(120)
    assert (job.state, job.claims, len(snapshots(job))) == (State.SUCCEEDED, 2, 1)
    told = [event.data["role"] for event in handle.watch() if event.type == "job.file"]
    assert [role for role in told if role.startswith("snapshot_")] == snapshots(job)


def _wished_before(desk: Desk, wish: Callable[[], object], job_id: str, *checkpoints: int) -> Job:
    """The job, of which that was wished before it has stored these of its checkpoints, counted from 1."""
    seen = 0

    def before_put(key: str) -> None:
        nonlocal seen
        seen += "/checkpoint-" in key
        if "/checkpoint-" in key and seen in checkpoints:
            wish()

    desk.store.before_put = before_put
    return run(desk, job_id)


def _strays(store: ObjectStore, job: Job) -> set[str]:
    return {item.key for item in store.list(f"{job.id}/")} - set(job.object_keys)


def _taken_back(desk: Desk, job_id: str) -> None:
    """By another worker, which stops."""
    desk.io.run(_lease_over(job_id))
    desk.io.run(claims.hand_back(desk.hand().claim(job_id), desk.around.rules))


def _lease_over(job_id: str) -> Operation[None]:
    yield command("ZADD", Key("leases"), 0, job_id)
