"""Replay: random jobs that a busy worker made side by side, made again one by one from their manifests.

They are made again as `darkroom replay` does it, in one process; afterwards the command itself is asked about a few.
"""

import base64
import io
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from PIL import Image

from bench.harness import Running, running_worker
from bench.table import Row
from darkroom.storage import ObjectStore, StorageSettings, open_store
from darkroom.storage.inputs import read_input
from darkroom.tasks import Img2Img, Job, Txt2Img
from darkroom.tasks.catalogue import ModelEntry
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import Manifest, parse_manifest
from darkroom.worker.images.replay import Replay
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.tuning import make_engine
from darkroom.worker.settings import WorkerSettings

JOBS = 200
COMMANDS = 3
IN_FLIGHT = 16
THREADS = 2
_ALONE = 2  # rows that one guided picture brings to a call


def measure() -> list[Row]:
    """Jobs that are equal bit for bit, and how many of their pictures shared model calls."""
    with running_worker(concurrency=str(IN_FLIGHT), threads=str(THREADS)) as running:
        jobs = _made(running)
        store = open_store(StorageSettings(storage_url=running.environment["DARKROOM_STORAGE_URL"]))
        found = [parse_manifest(store.get(job.result.manifest), running.catalogue) for job in jobs if job.result]
        equal = sum(_replayed(found, running, store))
        told = sum(_command_agrees(job, running) for job in jobs[:COMMANDS])
    images = [image for manifest in found for image in manifest.images]
    shared = sum(_largest(image.calls) > _ALONE for image in images)
    return [
        Row("jobs equal bit for bit when made again", f"{equal} of {JOBS}", f"{JOBS} of {JOBS}", equal == JOBS),
        Row("their pictures; of these in model calls with others", f"{len(images)}; {shared}"),
        Row("`darkroom replay` says the same", f"{told} of {COMMANDS}", f"{COMMANDS} of {COMMANDS}", told == COMMANDS),
    ]


def _made(running: Running) -> list[Job]:
    draw = random.Random(1)
    handles = [running.client.submit(_request(draw, running.entry)) for _ in range(JOBS)]
    return [handle.wait(timeout=600).raise_for_state() for handle in handles]


def _request(draw: random.Random, entry: ModelEntry) -> Txt2Img | Img2Img:
    """Any of the kinds, schedulers, sizes, steps and guidances that the model allows."""
    wishes: dict[str, Any] = {
        "prompt": draw.choice(("a red fox", "two cats on a roof", "a lake at night, in fog")),
        "negative_prompt": draw.choice((None, "", "people")),
        "scheduler": draw.choice(entry.schedulers),
        "guidance_scale": draw.choice((0.0, 1.0, 4.0, 9.0)),
        "num_inference_steps": draw.randint(1, 12),
        "num_images": draw.choice((1, 1, 1, 2, 3)),
    }
    if draw.random() < 0.35:
        source = Image.frombytes("RGB", (48, 40), draw.randbytes(48 * 40 * 3))
        return Img2Img(image=_data_url(source), strength=draw.choice((0.0, 0.4, 0.9, 1.0)), **wishes)
    return Txt2Img(width=draw.choice((32, 48, 64)), height=64, **wishes)


def _data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _replayed(manifests: list[Manifest], running: Running, store: ObjectStore) -> Iterator[bool]:
    """Of each, whether all its pictures are equal and nothing was otherwise than recorded."""
    own = {name.removeprefix("DARKROOM_").lower(): value for name, value in running.environment.items()}
    settings = WorkerSettings.model_validate({name: own[name] for name in ("device", "threads", "models_dir")})
    placement = choose_placement(settings)
    with make_engine(placement) as engine:
        generator = Generator(load_model(running.entry, placement, settings), engine)
        for manifest in manifests:
            again = Replay(manifest, generator, partial(_load, store))
            yield all(image.equal for image in again.images()) and not again.differences


def _load(store: ObjectStore, reference: str) -> bytes:
    tenant, settings = "default", StorageSettings()
    return read_input(reference, tenant=tenant, store=store, settings=settings, owns_output=lambda _: True)


def _command_agrees(job: Job, running: Running) -> bool:
    assert job.result
    command = [sys.executable, "-m", "darkroom.cli", "replay", job.result.manifest]
    return subprocess.run(command, env={**os.environ, **running.environment}, stdout=subprocess.DEVNULL).returncode == 0


def _largest(record: str) -> int:
    """The most rows of a model call that this picture was in."""
    return max((int(bucket) for bucket in re.findall(r"(?:^|[ x+])(\d+):", record)), default=0)
