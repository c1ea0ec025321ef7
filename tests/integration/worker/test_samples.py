"""Samples of trainings: images of the job, made on the way as later jobs would make them."""

import io
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from PIL import Image

from darkroom.tasks import InvalidRequest, Job, State, StoredImage, claims
from darkroom.tasks.claims import Claim
from darkroom.tasks.requests import Finetune
from darkroom.worker.adapters.lora import Lora
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.delivery.attempt import Canceled
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.delivery.patience import PatientStore
from darkroom.worker.delivery.publisher import ProgressPublisher
from darkroom.worker.delivery.results import Results
from darkroom.worker.delivery.samples import StoredSamples
from darkroom.worker.delivery.timings import Timings
from darkroom.worker.images.manifest import parse_manifest
from darkroom.worker.images.pictures import read_parameters
from darkroom.worker.images.records import pixels_sha256
from darkroom.worker.images.replay import Replay
from darkroom.worker.images.sampler import sampled

from .conftest import Desk
from .processes import Process
from .studio import Studio
from .test_finetune import TRAINING, lora_of, matrices, run, submit, upload

PROMPTS = ["a dotty star", "a red, large fox"]
SAMPLED: dict[str, Any] = {"sample_prompts": PROMPTS, "sample_every": 4}


def places(job: Job) -> list[tuple[int, int | None, str | None, int]]:
    return [(image.index, image.step, image.prompt, image.seed) for image in job.images]


def pixels(desk: Desk | Studio, image: StoredImage) -> str:
    return pixels_sha256(Image.open(io.BytesIO(desk.store.get(image.key))))


def shown(desk: Desk | Studio, job: Job) -> list[tuple[int, str]]:
    """Each sample by its number: their files name the job."""
    return [(image.index, pixels(desk, image)) for image in job.images]


def at_sample(desk: Desk, then: Callable[[], object], number: int) -> None:
    """Something happens before a sample after so many others is stored."""
    seen = count()

    def before_put(key: str) -> None:
        if key.endswith(".png") and "loss" not in key and next(seen) == number:
            then()

    desk.store.before_put = before_put


@pytest.fixture
def dataset(desk: Desk) -> str:
    return upload(desk)


def test_samples_are_images_of_the_job_with_the_same_seeds_at_every_round(desk: Desk, dataset: str) -> None:
    job = run(desk, submit(desk, dataset=dataset, **SAMPLED))
    rounds = [(0, 0), (2, 4), (4, 6)]
    assert places(job) == [(at + i, step, PROMPTS[i], 7 + i) for at, step in rounds for i in range(2)]
    assert len({image.sha256 for image in job.images}) == 6
    assert {(image.width, image.height) for image in job.images} == {(64, 64)}
    events = list(desk.client.watch(job.id))
    told = [event.data for event in events if event.type == "job.image"]
    assert [(one["index"], one["step"], one["prompt"]) for one in told] == [one[:3] for one in places(job)]
    assert [one["index"] for one in events[-1].data["images"]] == list(range(6))
    progress = [event.data for event in events if event.type == "job.progress" and "sample" in event.data]
    assert progress and {one["samples"] for one in progress} == {2} and {one["step"] for one in progress} <= {0, 4, 6}


def test_what_is_said_of_a_sample_is_not_that_it_can_be_made_again(desk: Desk, dataset: str) -> None:
    job = run(desk, submit(desk, dataset=dataset, **SAMPLED))
    text = read_parameters(desk.store.get(job.images[2].key))
    assert text.startswith("a dotty star\n") and f"Sample of step: 4 of 6, Training: {job.id}, LoRA: dots" in text
    assert "Lora hashes" not in text and "Seed: 7" in text
    assert job.result
    generator = desk.around.generators["tiny-sdxl"]
    manifest = parse_manifest(desk.store.get(job.result.manifest), {generator.entry.name: generator.entry})
    assert manifest.images == [] and [sample.key for sample in manifest.samples] == [one.key for one in job.images]
    replay = Replay(manifest, generator, desk.store.get)
    assert list(replay.images()) == [] and all(file.equal for file in replay.files)


def test_the_lora_has_the_bytes_of_a_training_without_samples(desk: Desk, dataset: str) -> None:
    plain = run(desk, submit(desk, dataset=dataset, overwrite=True))
    sampled = run(desk, submit(desk, dataset=dataset, overwrite=True, **SAMPLED))
    assert plain.images == [] and lora_of(desk, sampled) == lora_of(desk, plain)


@pytest.mark.parametrize("fields", [{}, {"text_encoder": True, "targets": "all"}])
def test_the_last_sample_is_what_the_tenants_next_job_makes(desk: Desk, dataset: str, fields: dict[str, Any]) -> None:
    training = run(desk, submit(desk, dataset=dataset, **{**SAMPLED, **fields, "sample_prompts": PROMPTS[:1]}))
    asked = {"prompt": PROMPTS[0], "width": 64, "height": 64, "seed": 7, "num_inference_steps": None}
    later = desk.run(**asked, loras=["dots"])
    without = desk.run(**asked)
    first, *_, last = (pixels(desk, image) for image in training.images)
    assert (first, last) == (pixels(desk, without.images[0]), pixels(desk, later.images[0]))
    assert first != last


def test_nothing_of_the_loras_on_the_way_is_left_on_the_worker(desk: Desk, dataset: str) -> None:
    folder = desk.around.own_files._folder
    adapters = desk.around.generators["tiny-sdxl"].adapters
    assert adapters

    def left() -> tuple[set[str], set[str]]:
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
        return names, {*adapters.library._own, *adapters.stats().lying}

    before = left()
    run(desk, submit(desk, dataset=dataset, **SAMPLED)).raise_for_state()
    assert left() == before


def test_what_ends_a_picture_that_waits_for_room_comes_out_as_it_is(desk: Desk, dataset: str) -> None:
    job = run(desk, submit(desk, dataset=dataset, **SAMPLED))
    lora, generator, training = lora_of(desk, job), desk.around.generators["tiny-sdxl"], job.request
    assert generator.adapters and isinstance(training, Finetune)
    wanted = {"of others": generator.adapters.stats().size}

    def stop() -> None:
        raise Canceled(job.id)

    with (
        generator.adapters._keeper.held(wanted, lambda _: Lora({}, {}), lambda: None),
        sampled(generator, desk.around.own_files, training, lora) as made,
        pytest.raises(Canceled),
    ):
        made.make(0, lambda *_: None, Ticket(on_wait=stop))


def test_a_round_that_nobody_planned_comes_after_all_others_while_there_is_room(desk: Desk, dataset: str) -> None:
    lora = lora_of(desk, run(desk, submit(desk, dataset=dataset)))
    job_id = submit(desk, dataset=dataset, overwrite=True, **SAMPLED)
    around, generator = desk.around, desk.around.generators["tiny-sdxl"]
    claim = desk.io.run(claims.claim(job_id, "here", 30, around.rules, around.has, "token"))
    assert isinstance(claim, Claim)
    with around.leases.hold(claim) as attempt:
        results = Results(attempt, PatientStore(around.keeper, 0, attempt.check), around.leases, Timings())
        told = ProgressPublisher(around.io, attempt, 0, generator.preview)
        samples = StoredSamples(attempt, generator, around.own_files, results, told)
        for step in (3, 5):
            samples.make(step, 6, None, lambda **_: lora)
        made = desk.client.get(job_id).images
        assert [(image.index, image.step) for image in made] == [(6, 3), (7, 3), (8, 5), (9, 5)]
        samples.recall([made[0].model_copy(update={"index": 254, "key": f"{job_id}/254-0000000000000000.png"})])
        samples.make(6, 6, None, lambda **_: lora)
    assert desk.client.get(job_id).images == made


def test_a_drain_amid_samples_keeps_the_step_and_another_worker_makes_the_others(desk: Desk, dataset: str) -> None:
    whole = run(desk, submit(desk, dataset=dataset, overwrite=True, **SAMPLED))
    drain = Drain(0)
    leases = LeaseKeeper(desk.io, 30, desk.around.rules, drain=drain)
    stopping = replace(desk, around=replace(desk.around, leases=leases))
    job_id = submit(desk, dataset=dataset, overwrite=True, checkpoint_every=100, **SAMPLED)
    at_sample(desk, drain.begin, 2)
    handed = run(stopping, job_id)
    assert (handed.state, [file.role for file in handed.files]) == (State.QUEUED, ["checkpoint"])
    assert [image.step for image in handed.images] == [0, 0, 4]
    desk.store.before_put = lambda _: None
    done = run(desk, job_id)
    assert (done.claims, done.warnings, shown(desk, done)) == (2, [], shown(desk, whole))
    assert matrices(lora_of(desk, done)) == matrices(lora_of(desk, whole))
    assert [event.data["index"] for event in desk.client.watch(job_id) if event.type == "job.image"] == list(range(6))
    assert done.result and b'"samples"' in desk.store.get(done.result.manifest)


def test_a_cancel_keeps_the_samples_and_a_delete_takes_them_away(desk: Desk, dataset: str) -> None:
    job_id = submit(desk, dataset=dataset, **SAMPLED)
    at_sample(desk, lambda: (desk.client.cancel(job_id), desk.around.leases.renew()), 2)
    job = run(desk, job_id)
    assert (job.state, [image.step for image in job.images]) == (State.CANCELED, [0, 0, 4])
    assert {item.key for item in desk.store.list(f"{job_id}/")} == set(job.object_keys)
    desk.client.delete(job_id)
    assert list(desk.store.list(f"{job_id}/")) == []


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"sample_prompts": ["x"] * 9}, "sample_prompts", "9"),
        ({"sample_prompts": ["a", " "]}, "sample_prompts.1", "is empty"),
        ({"sample_prompts": ["a", "x" * 9000]}, "sample_prompts.1", "at most"),
        ({"sample_prompts": ["a"], "sample_every": 0}, "sample_every", "equal to 1"),
        ({"sample_prompts": ["a"], "sample_every": 7}, "sample_every", "more than all 6 steps"),
        ({"sample_every": 2}, "sample_every", "no sample_prompts"),
        ({"sample_prompts": PROMPTS, "sample_every": 1, "num_train_steps": 100}, "sample_every", "202 samples"),
    ],
)
def test_what_is_refused_at_submit(desk: Desk, fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        submit(desk, **{"dataset": "inputs/default/0.zip", **fields})
    assert [fault.field for fault in caught.value.faults] == [field]
    assert words in str(caught.value)


def test_a_tenth_of_the_steps_lies_between_two_rounds(desk: Desk, dataset: str) -> None:
    job = desk.client.get(submit(desk, dataset=dataset, sample_prompts="a", num_train_steps=25))
    assert (job.request.sample_every, job.request.sample_prompts) == (3, ["a"])
    assert {"sample_prompts", "sample_every"} <= set(job.needs)
    assert "sample_every" not in desk.client.get(submit(desk, dataset=dataset)).needs


def test_a_killed_workers_training_has_the_samples_of_one_that_was_not(studio: tuple[Studio, Process]) -> None:
    shared, alone = studio[0], {"DARKROOM_LANES": "training"}
    asked = {**TRAINING, **SAMPLED, "num_train_steps": 40, "checkpoint_every": 5, "sample_every": 8}
    asked |= {"dataset": upload(shared), "overwrite": True, "batching": "solo", "tenant": "default"}
    with shared.worker(**alone) as first, shared.worker(**alone) as second:
        for worker in (first, second):
            worker.wait_for("worker.ready")
        whole = shared.client.submit(asked).wait(120)
        handle = shared.client.submit(asked)
        seen = count()
        name = ""
        for event in handle.watch():
            name = event.data["worker"] if event.type == "job.started" else name
            if event.type == "job.image" and next(seen) == 4:
                os.kill(int(name.split(":")[1]), signal.SIGKILL)
                break
        job = handle.wait(120)
    assert job.claims == 2 and job.worker != name
    assert shown(shared, job) == shown(shared, whole)
    assert lora_of(shared, job) == lora_of(shared, whole)
