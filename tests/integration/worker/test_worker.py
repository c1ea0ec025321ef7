"""A worker process at work: jobs from submit to stored pictures, one after the other on one loaded model."""

import hashlib
import io
import statistics
from itertools import pairwise

import pytest
import redis
from PIL import Image

from darkroom.tasks import State
from darkroom.tasks.message import knock

from .processes import Process
from .studio import Studio


@pytest.fixture
def at_work(studio: tuple[Studio, Process]) -> Studio:
    return studio[0]


@pytest.fixture
def worker(studio: tuple[Studio, Process]) -> Process:
    return studio[1]


def picture(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pixels(data: bytes) -> bytes:
    return picture(data).convert("RGB").tobytes()


def test_txt2img_from_submit_to_stored_pictures(at_work: Studio) -> None:
    handle = at_work.submit_watched(num_images=2, num_inference_steps=6, metadata={"chat": 7})
    events = at_work.until(handle, "job.succeeded")
    job = handle.get()
    assert (job.state, job.error, job.metadata, handle.warnings) == (State.SUCCEEDED, None, {"chat": 7}, [])
    types = [event.type for event in events]
    assert (types[:2], types[-1]) == (["job.queued", "job.started"], "job.succeeded")
    assert types.count("job.image") == 2
    last_steps = [event.data for event in events if event.type == "job.progress" and event.data["step"] == 6]
    assert sorted((data["image"], data["of"]) for data in last_steps) == [(0, 6), (1, 6)]  # side by side
    assert [image.seed for image in job.images] == handle.seeds
    for image in job.images:
        data = image.read()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (image.sha256, image.bytes)
        assert picture(data).size == (image.width, image.height) == (64, 64)
        assert f"Seed: {image.seed}" in picture(data).info["parameters"]
    assert job.result is not None
    assert b'"seeds"' in at_work.store.get(job.result.manifest)
    assert sum(job.result.timings.values()) > 0


def test_img2img_of_an_upload_and_of_a_result(at_work: Studio) -> None:
    made = at_work.run(seed=1).images[0]
    key = at_work.client.upload(made.read())
    one = at_work.run(image=key, seed=2)
    other = at_work.run(image=made.key, seed=2)
    assert (one.state, other.state) == (State.SUCCEEDED, State.SUCCEEDED)
    assert pixels(one.images[0].read()) == pixels(other.images[0].read())
    assert pixels(one.images[0].read()) != pixels(made.read())
    assert b"inputs_sha256" in at_work.store.get(one.result.manifest if one.result else "")


def test_two_pictures_are_those_of_two_jobs(at_work: Studio) -> None:
    pair = at_work.run(seeds=[11, 12])
    single = [at_work.run(seed=seed) for seed in (12, 11)]
    assert [pixels(image.read()) for image in pair.images] == [pixels(job.images[0].read()) for job in reversed(single)]


@pytest.mark.parametrize(("form", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_other_formats(at_work: Studio, form: str, kind: str) -> None:
    (image,) = at_work.run(output_format=form).images
    assert (picture(image.read()).format, image.content_type) == (kind, f"image/{form}")


def test_a_prompt_that_is_cut_is_said(at_work: Studio) -> None:
    long = "supercalifragilisticexpialidocious " * 30
    assert at_work.run(prompt=long, num_inference_steps=1).warnings == []
    handle = at_work.submit(prompt=long, num_inference_steps=1, long_prompt="cut")
    assert handle.warnings == []  # the client counts words, the worker tokens
    assert handle.wait(60).warnings == ["prompt_truncated"]


def test_a_job_that_is_canceled_while_it_runs(at_work: Studio) -> None:
    handle, following = at_work.submit_long(), at_work.submit()
    at_work.started(handle)
    assert handle.cancel() == "cancellation_requested"
    job = handle.wait(30)
    assert (job.state, job.result, job.error) == (State.CANCELED, None, None)
    assert following.wait(60).state is State.SUCCEEDED


def test_twenty_jobs_load_the_model_once_and_follow_on_each_other(at_work: Studio, worker: Process) -> None:
    """The gap between one job's end and the next one's start: milliseconds, where it once was most of a second."""
    handles = [at_work.submit(num_inference_steps=1) for _ in range(20)]
    jobs = [handle.wait(60) for handle in handles]
    assert {job.state for job in jobs} == {State.SUCCEEDED}
    assert {job.worker for job in jobs} == {jobs[0].worker}
    times = sorted((event.time, event.type) for handle in handles for event in handle.watch())
    changes = [(time, kind) for time, kind in times if kind in ("job.started", "job.succeeded")]
    gaps = [
        late - soon for (soon, one), (late, two) in pairwise(changes) if (one, two) == ("job.succeeded", "job.started")
    ]
    assert len(gaps) == 19
    assert statistics.median(gaps) < 0.1
    assert len(worker.of("model.loaded")) == 1


def test_interactive_goes_before_bulk(at_work: Studio) -> None:
    blocker = at_work.submit_long()
    at_work.started(blocker)
    bulk = [at_work.submit(lane="bulk", num_inference_steps=1) for _ in range(2)]
    interactive = [at_work.submit(num_inference_steps=1) for _ in range(2)]
    blocker.cancel()
    begun = {handle.id: handle.wait(60).started_at for handle in bulk + interactive}
    assert sorted(begun, key=lambda job_id: str(begun[job_id])) == [handle.id for handle in interactive + bulk]


def test_knocks_that_lead_nowhere(at_work: Studio, worker: Process, raw: "redis.Redis[str]") -> None:
    """For a job that does not exist, and for one that is done."""
    done, queue = at_work.submit(), f"queue:{at_work.model}:interactive"
    before = done.wait(60)
    missing = "00000000-0000-7000-8000-000000000000"
    for job_id in (missing, done.id, done.id):
        raw.lpush(f"studio:{queue}", knock(job_id, queue))
    worker.wait_for("job.knock_dropped", job_id=missing, reason="nothing")
    worker.wait_for("job.knock_dropped", count=2, job_id=done.id, reason="nothing")
    assert done.get() == before
    assert at_work.run().state is State.SUCCEEDED


def test_a_message_that_is_lost_is_sent_again(at_work: Studio, raw: "redis.Redis[str]") -> None:
    blocker = at_work.submit_long()
    at_work.started(blocker)
    lost = at_work.submit()
    assert raw.delete(f"studio:queue:{at_work.model}:interactive") == 1
    blocker.cancel()
    assert lost.wait(60).state is State.SUCCEEDED
    assert lost.get().claims == 1


def test_previews_come_with_the_progress(at_work: Studio) -> None:
    handle = at_work.submit_long()
    shown = next(event for event in handle.watch() if str(event.data.get("preview")).startswith("data:"))
    handle.cancel()
    assert str(shown.data["preview"]).startswith("data:image/jpeg;base64,/9j/")
    handle.wait(30)
