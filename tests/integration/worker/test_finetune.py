"""Trainings as jobs: to the LoRA that later jobs name, and whatever comes between."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load

from darkroom.storage.errors import StorageFull
from darkroom.tasks import InvalidRequest, Job, State
from darkroom.tasks.own_loras import key_of
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.delivery.runner import JobRunner
from darkroom.worker.images.replay import Replay
from tests.unit.worker.training.files import good, zipped

from .conftest import Desk
from .processes import Process
from .studio import Studio

TRAINING: dict[str, Any] = {
    "kind": "finetune",
    "model": "tiny-sdxl",
    "name": "dots",
    "seed": 7,
    "num_train_steps": 6,
    "rank": 2,
    "resolution": 64,
    "checkpoint_every": 2,
    "learning_rate": 0.01,
    "batch_size": 2,
    "flip": True,
}
SMALL = {"model": "tiny-sdxl", "prompt": "a dot", "width": 32, "height": 32, "num_inference_steps": 2, "seed": 1}


def upload(desk: Desk | Studio, tenant: str = "default", **files: bytes) -> str:
    return desk.client.upload(zipped(files or good(4)).getvalue(), tenant=tenant)


def submit(desk: Desk | Studio, **fields: Any) -> str:
    return desk.client.submit({**TRAINING, **({} if "dataset" in fields else {"dataset": upload(desk)}), **fields}).id


def run(desk: Desk, job_id: str) -> Job:
    JobRunner(desk.around)(job_id)
    return desk.client.get(job_id)


def lora_of(desk: Desk | Studio, job: Job) -> bytes:
    job.raise_for_state()
    return desk.store.get(next(file.key for file in job.files if file.role == "lora"))


def interrupted(desk: Desk, then: Callable[[], object], checkpoints: int = 1) -> None:
    """Something happens before a checkpoint after so many others is stored."""
    seen = count()

    def before_put(key: str) -> None:
        if "/checkpoint-" in key and next(seen) == checkpoints:
            then()

    desk.store.before_put = before_put


def test_from_pictures_to_a_lora_that_the_tenants_next_job_names(desk: Desk) -> None:
    job = run(desk, submit(desk, trigger="dotty"))
    assert (job.state, job.images, [file.role for file in job.files]) == (State.SUCCEEDED, [], ["lora", "loss"])
    assert [item.key for item in desk.store.list(f"{job.id}/") if "checkpoint" in item.key] == []
    events = list(desk.client.watch(job.id))
    steps = [event.data for event in events if event.type == "job.progress"]
    assert steps[-1]["step"] == 6 and {"loss", "loss_smoothed", "learning_rate", "gradient_norm"} <= steps[-1].keys()
    assert steps[-1]["steps_per_second"] > 0 and steps[-1]["seconds_left"] == 0
    lora = lora_of(desk, job)
    assert desk.store.get(key_of("default", "dots", job.files[0].sha256)) == lora
    plain, with_it = (desk.run(**SMALL, **more) for more in ({}, {"loras": ["dots"]}))
    assert plain.images[0].sha256 != with_it.images[0].sha256
    with pytest.raises(InvalidRequest, match="no LoRA 'dots'"):
        desk.client.submit({**SMALL, "loras": ["dots"], "tenant": "bob"})


def test_the_file_says_what_it_is_made_of(desk: Desk, tmp_path: Any) -> None:
    path = tmp_path / "lora.safetensors"
    path.write_bytes(lora_of(desk, run(desk, submit(desk, metadata={"secret": "x"}))))
    with safe_open(path, "pt") as file:
        said = file.metadata()["darkroom"]
    assert '"learning_rate": 0.01' in said and '"pictures": 4' in said and '"dataset": "' in said
    assert "secret" not in said and "inputs/" not in said


def test_pictures_have_the_bits_of_before_while_a_model_is_trained(desk: Desk) -> None:
    before = desk.run(**SMALL).images[0].sha256
    during: list[str] = []
    job_id = submit(desk)
    interrupted(desk, lambda: during.append(desk.run(**SMALL).images[0].sha256), checkpoints=0)
    run(desk, job_id).raise_for_state()
    assert [*during, desk.run(**SMALL).images[0].sha256] == [before] * 2


def test_a_drain_keeps_what_was_done_and_another_worker_ends_with_the_same_bits(desk: Desk) -> None:
    whole = lora_of(desk, run(desk, submit(desk)))
    drain = Drain(0)
    leases = LeaseKeeper(desk.io, 30, desk.around.rules, drain=drain)
    stopping = replace(desk, around=replace(desk.around, leases=leases))
    dataset = upload(desk)
    job_id = submit(desk, dataset=dataset, overwrite=True)
    interrupted(desk, drain.begin, checkpoints=0)
    handed = run(stopping, job_id)
    assert (handed.state, [file.role for file in handed.files]) == (State.QUEUED, ["checkpoint"])
    state = load(desk.store.get(handed.files[0].key))
    assert any(name.startswith("optimizer.") for name in state)
    desk.store.before_put = lambda _: None
    done = run(desk, job_id)
    assert (done.claims, done.warnings) == (2, [])
    assert matrices(lora_of(desk, done)) == matrices(whole)


def test_a_cancel_keeps_the_last_checkpoint(desk: Desk) -> None:
    job_id = submit(desk, num_train_steps=500)
    interrupted(desk, lambda: (desk.client.cancel(job_id), desk.around.leases.renew()))
    job = run(desk, job_id)
    assert (job.state, [file.role for file in job.files]) == (State.CANCELED, ["checkpoint"])
    assert [item.key for item in desk.store.list(f"{job_id}/")] == [job.files[0].key]
    assert not desk.store.exists(key_of("default", "dots", "0" * 64))


def test_a_checkpoint_sets_losses_and_failures_to_zero(desk: Desk) -> None:
    job_id = submit(desk)
    seen = []

    def look() -> None:
        seen.append(desk.client.get(job_id).failures)

    interrupted(desk, look, checkpoints=1)
    desk.around.io.run(_failed_once(desk, job_id))
    run(desk, job_id).raise_for_state()
    assert seen == [0]


def test_a_full_disk_hands_the_job_back_with_its_last_checkpoint(desk: Desk) -> None:
    impatient = replace(desk, around=replace(desk.around, patience=0.0))
    job_id = submit(desk)

    def full(key: str) -> None:
        raise StorageFull("no space left on device")

    def second(key: str) -> None:
        if "/checkpoint-" in key and next(seen) >= 1:
            full(key)

    seen = count()
    desk.store.before_put = second
    job = run(impatient, job_id)
    assert (job.state, [file.role for file in job.files]) == (State.QUEUED, ["checkpoint"])
    desk.store.before_put = lambda _: None
    desk.around.keeper.look()
    assert run(desk, job_id).state is State.SUCCEEDED


def test_a_data_set_that_is_gone_when_a_training_is_to_go_on(desk: Desk) -> None:
    dataset = upload(desk)
    job_id = submit(desk, dataset=dataset)
    desk.store.delete(dataset)
    job = run(desk, job_id)
    assert job.error and (job.state, job.error.code) == (State.FAILED, "input_missing")


def test_a_name_that_is_taken(desk: Desk) -> None:
    run(desk, submit(desk)).raise_for_state()
    job = run(desk, submit(desk, seed=8))
    assert job.error and (job.state, job.error.code) == (State.FAILED, "lora_name_taken")
    again = run(desk, submit(desk, seed=8, overwrite=True))
    assert again.state is State.SUCCEEDED


def test_a_name_that_is_taken_while_it_trains_costs_nobody_the_lora(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(desk, submit(desk)).raise_for_state()
    monkeypatch.setattr("darkroom.worker.delivery.runner.check_name", lambda *_: None)  # as it was when it began
    job = run(desk, submit(desk, seed=8))
    assert job.error and (job.state, job.error.code) == (State.FAILED, "lora_name_taken")
    (lora,) = (file for file in job.files if file.role == "lora")
    assert lora.key in job.error.hint and desk.store.get(lora.key)


def test_all_that_is_wrong_with_a_data_set_is_told_before_the_first_step(desk: Desk) -> None:
    files = {
        **good(3),
        "a.png": b"\x89PNG\r\n\x1a\nno",
        "b.txt": "caf\xe9".encode("latin-1"),
        "b.png": good(9)["8.png"],
    }
    job = run(desk, submit(desk, dataset=desk.client.upload(zipped(files).getvalue())))
    assert job.error and (job.state, job.error.code) == (State.FAILED, "dataset_invalid")
    assert all(name in job.error.message for name in ("a.png", "b.txt"))
    assert not [event for event in desk.client.watch(job.id) if event.type == "job.progress"]


@pytest.mark.parametrize("optimizer", ["adamw8bit", "prodigy"])
def test_an_optimizer_whose_package_is_not_here(desk: Desk, optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    submitted = desk.client.submit({**TRAINING, "dataset": upload(desk), "optimizer": optimizer})
    assert submitted.warnings == (["prodigy_rate"] if optimizer == "prodigy" else [])
    job = run(desk, submitted.id)
    assert job.error and (job.state, job.error.code) == (State.FAILED, "training_unavailable")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"rank": 0}, "rank"),
        ({"rank": 4096}, "rank"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"name": "../x"}, "name"),
        ({"dataset": "inputs/bob/0.zip"}, "dataset"),
        ({"dataset": "/home/me/pictures"}, "dataset"),
        ({"dataset": "https://example.com/set.zip"}, "dataset"),
        ({"num_train_steps": 10, "warmup_steps": 10}, "warmup_steps"),
        ({"resolution": 65}, "resolution"),
        ({"model": "tiny-sdxl", "lane": "bulk"}, "lane"),
    ],
)
def test_what_is_refused_at_submit(desk: Desk, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        submit(desk, **{"dataset": "inputs/default/0.zip", **fields})
    assert [fault.field for fault in caught.value.faults] == [field]


def test_the_objects_under_a_prefix_are_a_data_set(desk: Desk) -> None:
    for name, data in good(3).items():
        desk.store.put(f"inputs/default/dots/{name}", data, content_type="x")
    by_prefix = lora_of(desk, run(desk, submit(desk, dataset="inputs/default/dots/")))
    zipped_up = lora_of(desk, run(desk, submit(desk, dataset=upload(desk, **good(3)), overwrite=True)))
    assert matrices(by_prefix) == matrices(zipped_up)


def test_a_replay_of_a_training_makes_it_again(desk: Desk) -> None:
    job = run(desk, submit(desk))
    assert job.result
    generator = desk.around.generators["tiny-sdxl"]
    from darkroom.worker.images.manifest import parse_manifest

    manifest = parse_manifest(desk.store.get(job.result.manifest), {generator.entry.name: generator.entry})
    replay = Replay(manifest, generator, desk.store.get)
    assert list(replay.images()) == []
    assert all(file.equal for file in replay.files)


def test_a_killed_workers_training_ends_with_the_same_bits(studio: tuple[Studio, Process]) -> None:
    """Each step may be lost; what was kept is not made again."""
    shared, alone = studio[0], {"DARKROOM_LANES": "training"}
    asked = {"dataset": upload(shared), "num_train_steps": 60, "checkpoint_every": 5, "overwrite": True}
    with shared.worker(**alone) as first, shared.worker(**alone) as second:
        for worker in (first, second):
            worker.wait_for("worker.ready")
        whole = shared.client.submit({**TRAINING, **asked}).wait(120)
        handle = shared.client.submit({**TRAINING, **asked})
        name = next(event.data["worker"] for event in shared.until(handle, "job.file") if event.type == "job.started")
        os.kill(int(name.split(":")[1]), signal.SIGKILL)
        job = handle.wait(120)
    assert job.claims == 2 and job.worker != name
    assert matrices(lora_of(shared, job)) == matrices(lora_of(shared, whole))


def test_a_worker_with_a_single_place_takes_no_training_beside_pictures(studio: tuple[Studio, Process]) -> None:
    with studio[0].worker(DARKROOM_CONCURRENCY="1") as single:
        assert "--lane training" in single.wait_for("lanes.no_training")["hint"]
    alone = {"DARKROOM_CONCURRENCY": "1", "DARKROOM_LANES": "training"}
    with studio[0].worker(**alone) as trainer:
        trainer.wait_for("worker.ready")
        assert trainer.of("lanes.no_training") == []


def matrices(lora: bytes) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in load(lora).items()}


def _failed_once(desk: Desk, job_id: str) -> Any:
    from darkroom.tasks.redis_io import Key, command

    yield command("HSET", Key(f"job:{job_id}"), "failures", 2, "lost", 1)
