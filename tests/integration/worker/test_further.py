"""Jobs of two models: given to a worker that serves both, made, recorded, and made again."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from darkroom.storage import ObjectStore
from darkroom.tasks import Refiner, State, TaskSettings, claims
from darkroom.tasks.catalogue import ModelEntry
from darkroom.worker.delivery.runner import JobRunner
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.loading import load_model
from darkroom.worker.process.abilities import abilities_of
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.nursery import nursery

from .conftest import TTL, Desk, open_desk, places_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SMALL = {"width": 32, "height": 32, "num_inference_steps": 5}
REFINER = "tiny-sdxl-refiner"


@pytest.fixture(scope="module")
def refiner(generator: Generator, tiny_models: TinyModels) -> Generator:
    model = load_model(tiny_models("sdxl-refiner"), generator.model.placement, WorkerSettings())
    return Generator(model, generator.engine)


@pytest.fixture
def both(task_settings: TaskSettings, generator: Generator, refiner: Generator, store: ObjectStore) -> Iterator[Desk]:
    """A worker of both models."""
    generators = {one.entry.name: one for one in (generator, refiner)}
    offers = [one.entry.offer() for one in generators.values()]
    has = abilities_of(offers)
    with open_desk(task_settings, generator, store) as desk:
        desk.io.run(claims.serve("here", {}, TTL, offers, has))
        places = places_of(desk.io, has)
        yield replace(desk, around=replace(desk.around, generators=generators, has=has, places=places))


def test_one_job_by_two_models_is_made_again_by_the_command(
    both: Desk, entry: ModelEntry, refiner: Generator, tmp_path: Path
) -> None:
    handle = both.client.submit(
        {"model": entry.name, "prompt": "a red fox", "seeds": [1, 2], "num_images": 2, **SMALL,
         "refiner": Refiner(model=REFINER, start=0.6), "hires": {"scale": 1.5, "model": REFINER}}
    )  # fmt: skip
    assert handle.warnings == []
    JobRunner(both.around)(handle.id)
    job = both.client.get(handle.id)
    assert (job.state, job.error) == (State.SUCCEEDED, None)
    assert job.result and {(image.width, image.height) for image in job.images} == {(48, 48)}
    manifest = json.loads(both.store.get(job.result.manifest))
    assert [one["model"]["name"] for one in manifest["further_models"]] == [REFINER]

    path = tmp_path / "catalogue.json"
    entries = [one.model_dump(mode="json") for one in (entry, refiner.entry)]
    path.write_text(json.dumps({"models": entries}))
    set_here = {"DARKROOM_CATALOGUE": str(path), "DARKROOM_STORAGE_URL": (tmp_path / "store").as_uri()}
    command = [nursery().python, "-m", "darkroom.cli", "replay", job.result.manifest, "--json", "--threads", "1"]
    again = subprocess.run(command, env={**os.environ, **set_here}, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert told["bit_equal"] and not told["differences"]


@pytest.mark.parametrize(
    "second", [{"refiner": {"model": REFINER}}, {"hires": {"model": REFINER, "scale": 1.5}}], ids=str
)
def test_a_cancel_while_the_second_model_works(both: Desk, refiner: Generator, second: dict[str, Any]) -> None:
    job_id, calls = both.submit(**SMALL, **second), []

    def cancel(*_: object) -> None:
        calls.append(both.client.cancel(job_id))
        both.around.leases.renew()

    handle = refiner.model.components["unet"].register_forward_hook(cancel)
    try:
        JobRunner(both.around)(job_id)
    finally:
        handle.remove()
    job = both.client.get(job_id)
    assert (calls, job.state, job.images) == (["cancellation_requested"], State.CANCELED, [])
    assert not list(both.store.list(job_id))


def test_a_refiner_that_nobody_serves_is_waited_for(desk: Desk, entry: ModelEntry) -> None:
    """The worker of SDXL alone never sees the job."""
    asked = {"model": entry.name, "prompt": "a", **SMALL}
    desk.io.run(claims.serve("there", {}, TTL, [entry.offer().model_copy(update={"name": "other"})], {}))
    handle = desk.client.submit({**asked, "refiner": {"model": "other"}})
    assert handle.warnings == ["no_worker"]
    JobRunner(desk.around)(handle.id)
    assert desk.client.get(handle.id).state is State.QUEUED
    assert desk.client.submit(asked).warnings == []


def test_two_jobs_hand_over_by_the_key_of_the_latents(both: Desk) -> None:
    first = both.run(**SMALL, denoising_end=0.6, output=["latents"])
    (latents,) = first.files
    second = both.run(model=REFINER, kind="img2img", image=latents.key, num_inference_steps=5, denoising_start=0.6)
    assert (second.state, second.error) == (State.SUCCEEDED, None)
    wrong = both.run(model=REFINER, kind="img2img", image=latents.key, num_inference_steps=5, denoising_start=0.7)
    assert wrong.error and wrong.error.code == "input_unfit" and "ended at 0.6" in wrong.error.message
