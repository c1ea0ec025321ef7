"""Producers and workers of the last release and of a later one on one Redis, whichever comes first."""

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from darkroom.storage import StorageSettings, open_store
from darkroom.tasks import JobHandle, State, TaskSettings
from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.claims import serve
from darkroom.tasks.offers import RELEASED_OFFER
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import parse_manifest
from darkroom.worker.images.pictures import encode
from darkroom.worker.images.replay import Replay
from tests.faults.adapters import FEW_STEPS, catalogue
from tests.toys import later_release
from tests.unit.worker.conftest import photo

from .processes import Process
from .releases import LastRelease, last_release, later_worker, readable_to_both
from .studio import Studio, open_studio

Raw = redis.Redis


@pytest.fixture(scope="session")
def last(tmp_path_factory: pytest.TempPathFactory) -> LastRelease:
    return last_release(tmp_path_factory.mktemp("last-release"))


@pytest.fixture
def studio(task_settings: TaskSettings, entry: ModelEntry, tmp_path: Path) -> Iterator[Studio]:
    """Without workers; the producer in this process knows `glow`."""
    url = (tmp_path / "objects").as_uri()
    storage = {"DARKROOM_STORAGE_URL": url}
    store = open_store(StorageSettings(storage_url=url))
    with later_release(), open_studio(task_settings, store, storage, entry, tmp_path) as studio:
        Path(studio.environment["DARKROOM_CATALOGUE"]).write_text(readable_to_both(entry))
        yield studio


def plain(**fields: Any) -> dict[str, Any]:
    return {"prompt": "a red fox", "model": "tiny-sdxl", **fields}


def succeeded(studio: Studio, *jobs: JobHandle | str) -> None:
    ids = [job if isinstance(job, str) else job.id for job in jobs]
    assert [studio.client.wait(job_id, 120).state for job_id in ids] == [State.SUCCEEDED] * len(ids)


def claims(studio: Studio, job: JobHandle) -> int:
    return studio.client.get(job.id).claims


def all_is_well(studio: Studio, raw: "Raw[str]", prefix: str) -> None:
    """No job was given up, or taken for something else."""
    assert {job.state for job in studio.client.jobs()} == {State.SUCCEEDED}
    assert studio.client.dead() == []
    assert not [key for key in ("unreadable", "garbage", "dead", "leases") if raw.exists(f"{prefix}{key}")]


def heard_of(process: Process, job: JobHandle) -> list[Any]:
    return [line for line in process.lines if line.get("job_id") == job.id]


def test_producers_first(studio: Studio, last: LastRelease, raw: "Raw[str]", task_settings: TaskSettings) -> None:
    """A queue that the last release filled, its worker, and a producer that already asks for more."""
    with last.worker(studio) as old:
        (word,) = (json.loads(raw.get(key) or "") for key in raw.scan_iter(f"{task_settings.redis_prefix}worker:*"))
        assert "serves" not in word  # it is the last release's
        old.send(signal.SIGSTOP)
        filled = last.produce(studio, [plain(), plain(lane="bulk"), plain(num_images=2, seed=1)])["jobs"]
        glowing, bulk = studio.submit(glow=0.5), studio.submit(glow=1, lane="bulk")
        behind = studio.submit(lane="bulk", output_format="webp")
        assert glowing.warnings == bulk.warnings == ["no_worker"]
        old.send(signal.SIGCONT)
        succeeded(studio, *filled, behind)
        studio.client.models()
        assert studio.submit(glow=2).warnings == ["no_worker"]
        late = studio.submit()
        assert late.warnings == []
        succeeded(studio, late)
        assert [claims(studio, job) for job in (glowing, bulk)] == [0, 0]
        assert heard_of(old, glowing) == heard_of(old, bulk) == []
        assert old.of("record.unreadable") == old.of("record.repaired") == old.of("janitor.refused") == []
        with later_worker(studio) as new:
            succeeded(studio, glowing, bulk, *(job.id for job in studio.client.jobs(state="queued")))
            assert new.of("job.succeeded", job_id=glowing.id)
            studio.client.models()
            while_both_run = studio.submit(glow=3, seed=1, lane="bulk")
            assert while_both_run.warnings == []
            succeeded(studio, while_both_run)
        assert old.terminate() == 0
    all_is_well(studio, raw, task_settings.redis_prefix)


def test_workers_first(studio: Studio, last: LastRelease, raw: "Raw[str]", task_settings: TaskSettings) -> None:
    """A producer of the last release is served by a later worker, reads its offer, and lists what it asked for."""
    with last.worker(studio) as old:  # a queue that the last release filled; its worker is stopped for its upgrade
        assert old.terminate() == 0
    filled = last.produce(studio, [plain(), plain(lane="bulk")])["jobs"]
    with later_worker(studio):
        succeeded(studio, *filled)
        told = last.produce(studio, [plain(seed=2), plain(scheduler="ddim")], filled)
        assert told["states"] == ["succeeded", "succeeded"]
        assert (told["workers"], told["warnings"]) == ({studio.model: 1}, [[], []])
        limits = studio.client.models().offers[studio.model].limits.model_dump(include=set(RELEASED_OFFER["limits"]))
        assert told["offers"][studio.model]["limits"] == limits
        succeeded(studio, *told["jobs"])
        glowing, plainly = studio.submit(glow=1), studio.submit(glow=0)
        succeeded(studio, glowing, plainly)
        told = last.produce(studio, [], [plainly.id, *told["jobs"]])
        assert set(told["states"]) == {"succeeded"}
        assert (told["dead"], told["unreadable"]) == ([], [glowing.id])
    all_is_well(studio, raw, task_settings.redis_prefix)


def test_what_the_last_release_made_is_made_again_to_the_bit(
    studio: Studio, last: LastRelease, generator: Generator
) -> None:
    """Its manifests say nothing of what came later: they mean what that release did, a prompt that was cut, say."""
    source = studio.client.upload(encode(photo(), "png", "")[0])
    turned = {"kind": "img2img", "image": source, "strength": 0.7, "output_format": "webp"}
    asked = [plain(num_images=2, seed=5), plain(prompt="a very red fox, " * 40, seed=1), plain(seed=2, **turned)]
    asked += [plain(seed=3, batching="solo", scheduler="dpmpp_2m_karras", guidance_scale=1.0)]
    with last.worker(studio) as old:
        made = last.produce(studio, asked)["jobs"]
        succeeded(studio, *made)
        assert old.terminate() == 0
    for job_id in made:
        result = studio.client.get(job_id).result
        assert result is not None
        manifest = parse_manifest(studio.store.get(result.manifest), {studio.model: generator.model.entry})
        again = Replay(manifest, generator, studio.store.get)
        assert [image.equal for image in again.images()] == [True] * len(manifest.seeds)
        assert [difference.field for difference in again.differences if difference.field != "darkroom"] == []


def test_a_worker_of_the_last_release_looks_after_what_it_cannot_run(
    studio: Studio, last: LastRelease, raw: "Raw[str]", task_settings: TaskSettings
) -> None:
    """Its janitor gives back a job whose worker died, once to nobody, and it waits for one that has what it needs."""
    with last.worker(studio) as old:
        with later_worker(studio) as new:
            job = studio.submit(glow=1, num_inference_steps=100, num_images=4)
            studio.started(job)
            new.send(signal.SIGKILL)
            new.end()
        again = next(event for event in job.watch() if event.data.get("reason") == "lease_expired")
        assert again.type == "job.queued"
        plainly = studio.submit()
        succeeded(studio, plainly)
        assert (job.get().state, claims(studio, job)) == (State.QUEUED, 1)
        assert old.of("janitor.knocked", job_id=job.id, outcome="queued")
        with later_worker(studio):
            succeeded(studio, job)
    all_is_well(studio, raw, task_settings.redis_prefix)


def test_a_producer_of_the_last_release_that_names_no_model_means_none_with_a_base(
    studio: Studio, last: LastRelease, task_settings: TaskSettings, entry: ModelEntry
) -> None:
    """Whoever serves one beside its base changes nothing for it; by name it can have it."""
    quick = entry.offer().model_copy(update={"name": "quick", "base": entry.name})
    with closing(BlockingIO(task_settings)) as io:
        io.run(serve("here", {}, 60, [entry.offer(), quick], {}))
    asked = [{"prompt": "a red fox"}, plain(model="quick")]
    told = last.produce(studio, asked)
    assert [studio.client.get(job).model for job in told["jobs"]] == [entry.name, "quick"]
    assert told["warnings"][0] == []
    assert told["workers"] == {entry.name: 1, "quick": 0}


def test_loras_and_models_made_of_another_are_not_for_the_last_release(
    studio: Studio, last: LastRelease, raw: "Raw[str]", task_settings: TaskSettings, entry: ModelEntry, tmp_path: Path
) -> None:
    """It runs what is beside them, and its producers read what they may."""
    adapted = tmp_path / "adapted.json"
    adapted.write_text(json.dumps(catalogue(entry, tmp_path)))
    with last.worker(studio) as old, studio.worker(DARKROOM_CATALOGUE=str(adapted)) as new:
        new.wait_for("worker.ready")
        studio.client.models()
        new.send(signal.SIGSTOP)
        drawn = studio.submit(loras=["one:0.5"])
        quick = studio.client.submit(plain(model=f"{studio.model}{FEW_STEPS}"))
        assert drawn.warnings == quick.warnings == []
        plainly = studio.submit(lane="bulk")
        succeeded(studio, plainly)
        assert heard_of(old, plainly)
        assert [claims(studio, job) for job in (drawn, quick)] == [0, 0]
        new.send(signal.SIGCONT)
        succeeded(studio, drawn, quick)
        # Its janitor may have knocked for one that waited while the other stood still; it claims none.
        told = [*heard_of(old, drawn), *heard_of(old, quick)]
        assert {line.get("outcome") for line in told} <= {"knocked"}
        told = last.produce(studio, [plain(seed=2)], [plainly.id, quick.id])
        assert (told["states"], told["warnings"]) == (["succeeded", "succeeded"], [[]])
        assert (told["dead"], told["unreadable"]) == ([], [drawn.id])
        succeeded(studio, *told["jobs"])
    all_is_well(studio, raw, task_settings.redis_prefix)
