"""Prior preservation: pictures that a training makes of its class prompts before it learns."""

import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from itertools import count
from typing import Any

import pytest
from PIL import Image

from darkroom.tasks import Job, State
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.delivery.image_threads import ImageThreads
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.training.dataset import read_zip
from darkroom.worker.training.plan import class_image_seed
from tests.unit.worker.training.files import good, picture

from .conftest import Desk
from .processes import Process
from .studio import Studio
from .test_finetune import TRAINING, interrupted, lora_of, matrices, run, submit, upload

PROMPTS = ["a picture of a star", "a red circle, on white"]
WITH = {"class_prompts": PROMPTS, "num_class_images": 5, "num_train_steps": 4, "batching": "solo"}
WIDE = {**good(3), "wide.png": picture(7, (80, 40)), "wide.txt": b"wide"}


@pytest.fixture
def several(desk: Desk) -> Iterator[Desk]:
    """With threads for class pictures."""
    with closing(ImageThreads(3)) as images:
        yield replace(desk, around=replace(desk.around, images=images))


def prior_of(desk: Desk | Studio, job: Job) -> dict[str, bytes]:
    """The file's pictures and captions."""
    (file,) = [file for file in job.files if file.role == "prior"]
    with zipfile.ZipFile(BytesIO(desk.store.get(file.key))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pixels(data: bytes) -> bytes:
    with Image.open(BytesIO(data)) as opened:
        return opened.tobytes()


def told(desk: Desk | Studio, job: Job) -> list[dict[str, Any]]:
    return [event.data for event in desk.client.watch(job.id) if event.type == "job.progress"]


def before_prior(desk: Desk, then: Callable[[], object], made: int = 2) -> None:
    """Something happens before the request for a class picture after so many others is prepared."""
    seen, prepare = count(), desk.around.generators["tiny-sdxl"].prepare

    def prepared(request: Any, *beside: Any) -> Any:
        if request.kind == "txt2img" and next(seen) == made:
            then()
        return prepare(request, *beside)

    desk.around.generators["tiny-sdxl"].prepare = prepared  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def unpatched(desk: Desk) -> Iterator[None]:
    yield
    vars(desk.around.generators["tiny-sdxl"]).pop("prepare", None)


def test_class_pictures_are_those_of_jobs_of_their_own_and_stay_as_a_data_set(several: Desk) -> None:
    job = run(several, submit(several, **WITH))
    job.raise_for_state()
    assert [file.role for file in job.files] == ["lora", "loss", "prior"]
    files = prior_of(several, job)
    assert [files[f"{place}.txt"].decode() for place in range(5)] == [PROMPTS[place % 2] for place in range(5)]
    asked = {"prompt": PROMPTS[1], "width": 64, "height": 64, "num_inference_steps": None}
    alone = several.run(**asked, seed=class_image_seed(7, 3), batching="solo")
    assert pixels(several.store.get(alone.images[0].key)) == pixels(files["3.png"])
    (file,) = [file for file in job.files if file.role == "prior"]
    again = read_zip(
        BytesIO(several.store.get(file.key)), caption=None, trigger=None, resolution=64, tokens=None, most_tokens=75
    )
    assert len(again.examples) == 5


def test_they_are_told_of_before_the_first_step_and_change_what_is_learned(several: Desk) -> None:
    plain = run(several, submit(several, num_train_steps=4))
    job = run(several, submit(several, **WITH, overwrite=True))
    said = told(several, job)
    first = next(place for place, data in enumerate(said) if "loss" in data)
    assert said[0].items() >= {"step": 0, "of": 4, "class_images_of": 5}.items()
    assert all("class_images" in data for data in said[:first]) and "loss_prior" in said[-1]
    assert "loss_prior" not in told(several, plain)[-1]
    assert matrices(lora_of(several, job)) != matrices(lora_of(several, plain))
    heavier = run(several, submit(several, **WITH, overwrite=True, prior_loss_weight=5.0))
    assert matrices(lora_of(several, heavier)) != matrices(lora_of(several, job))
    assert prior_of(several, heavier) == prior_of(several, job)


@pytest.mark.parametrize("checkpoints", [-1, 0])
def test_a_drain_loses_no_class_picture_and_the_lora_has_the_same_bits(several: Desk, checkpoints: int) -> None:
    """While they are made, and after the first checkpoint."""
    asked = {**WITH, "dataset": upload(several, **WIDE), "overwrite": True}
    whole = run(several, submit(several, **asked))
    drain = Drain(0)
    leases = LeaseKeeper(several.io, 30, several.around.rules, drain=drain)
    stopping = replace(several, around=replace(several.around, leases=leases, images=ImageThreads(0)))
    job_id = submit(several, **asked)
    if checkpoints < 0:
        before_prior(stopping, drain.begin)
    else:
        interrupted(several, drain.begin, checkpoints)
    handed = run(stopping, job_id)
    kept = prior_of(several, handed)
    assert (handed.state, len(kept)) == (State.QUEUED, 2 * (2 if checkpoints < 0 else 5))
    several.store.before_put = lambda _: None
    made: list[str] = []
    before_prior(several, lambda: made.append("third"), made=2)
    done = run(several, job_id)
    assert done.claims == 2 and matrices(lora_of(several, done)) == matrices(lora_of(several, whole))
    assert made == (["third"] if checkpoints < 0 else [])
    assert kept.items() <= prior_of(several, done).items()
    assert len([item for item in several.store.list(f"{job_id}/") if "/prior-" in item.key]) == 1


def test_a_cancel_keeps_what_was_made_and_trains_nothing(desk: Desk) -> None:
    job_id = submit(desk, **WITH)
    before_prior(desk, lambda: (desk.client.cancel(job_id), desk.around.leases.renew()))
    job = run(desk, job_id)
    assert (job.state, [file.role for file in job.files]) == (State.CANCELED, ["prior"])
    assert sorted(prior_of(desk, job)) == ["0.png", "0.txt", "1.png", "1.txt"]
    assert not any("loss" in data for data in told(desk, job))


def test_kept_pictures_that_cannot_be_read_end_the_job(desk: Desk) -> None:
    job_id = submit(desk, **WITH)
    drain = Drain(0)
    leases = LeaseKeeper(desk.io, 30, desk.around.rules, drain=drain)
    before_prior(desk, drain.begin)
    handed = run(replace(desk, around=replace(desk.around, leases=leases)), job_id)
    desk.store.put(handed.files[0].key, b"PK no zip", content_type="application/zip")
    job = run(desk, job_id)
    assert job.error and (job.state, job.error.code) == (State.FAILED, "checkpoint_invalid")


def test_a_replay_learns_from_those_that_were_stored(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """They shared calls, nobody has written down which, and others would have other bits: they are not made again."""
    from darkroom.worker.images.manifest import parse_manifest
    from darkroom.worker.images.replay import Replay

    job = run(desk, submit(desk, **{**WITH, "batching": "auto", "overwrite": True}))
    assert job.result
    generator = desk.around.generators["tiny-sdxl"]
    manifest = parse_manifest(desk.store.get(job.result.manifest), {generator.entry.name: generator.entry})
    replay = Replay(manifest, generator, desk.store.get)
    monkeypatch.setattr("darkroom.worker.images.run.Making.pictures", None)
    assert list(replay.images()) == [] and [file.role for file in replay.files] == ["lora", "loss", "prior"]
    assert all(file.equal for file in replay.files)


def test_a_prompt_that_the_model_does_not_read_to_its_end_is_refused_before_a_picture(desk: Desk) -> None:
    """How many tokens a word is only a worker knows."""
    job = run(desk, submit(desk, class_prompts=["a star", "qxzjkvbwpfghq" * 20]))
    assert job.error and (job.state, job.error.code) == (State.FAILED, "invalid_request")
    assert "class_prompts.1" in job.error.message and told(desk, job) == []


@pytest.mark.parametrize("then", ["job.file", "job.progress"])
def test_a_killed_workers_training_ends_with_the_same_bits(studio: tuple[Studio, Process], then: str) -> None:
    """Killed when they are kept, or while they are made: the same seeds make them again."""
    shared, alone = studio[0], {"DARKROOM_LANES": "training"}
    asked = {**TRAINING, **WITH, "dataset": upload(shared), "num_train_steps": 10, "overwrite": True}
    with shared.worker(**alone) as first, shared.worker(**alone) as second:
        for worker in (first, second):
            worker.wait_for("worker.ready")
        whole = shared.client.submit(asked).wait(120)
        handle = shared.client.submit(asked)
        name = next(event.data["worker"] for event in shared.until(handle, then) if event.type == "job.started")
        os.kill(int(name.split(":")[1]), signal.SIGKILL)
        job = handle.wait(120)
    assert job.claims == 2 and job.worker != name
    assert matrices(lora_of(shared, job)) == matrices(lora_of(shared, whole))
    assert prior_of(shared, job) == prior_of(shared, whole)
