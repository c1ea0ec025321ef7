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
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from bench.harness import Running, quiet_logs, running_worker
from bench.loras.tiny import LORAS, OWN, QUICK, adapters_beside
from bench.table import Row
from darkroom.storage import ObjectStore, StorageSettings, open_store
from darkroom.storage.inputs import read_input
from darkroom.tasks import Job
from darkroom.tasks.catalogue import ModelEntry, load_contents
from darkroom.tasks.requests import Embed
from darkroom.worker.images.manifest import Manifest, parse_manifest
from darkroom.worker.images.replay import Replay
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.tuning import make_engine
from darkroom.worker.process.pinned import Pinned
from darkroom.worker.settings import WorkerSettings

JOBS = 200
COMMANDS = 3
IN_FLIGHT = 16
THREADS = 2
_ALONE = 2  # rows that one guided picture brings to a call


def measure() -> list[Row]:
    """Jobs that are equal bit for bit, and how many of their pictures shared model calls."""
    quiet_logs()
    with running_worker(adapters_beside, concurrency=str(IN_FLIGHT), threads=str(THREADS)) as running:
        jobs = _made(running)
        store = open_store(StorageSettings(storage_url=running.environment["DARKROOM_STORAGE_URL"]))
        known = load_contents(Path(running.environment["DARKROOM_CATALOGUE"])).models
        found = [parse_manifest(store.get(job.result.manifest), known) for job in jobs if job.result]
        equal = sum(_replayed(found, running, store))
        told = sum(_command_agrees(job, running) for job in jobs[:COMMANDS])
    images = [image for manifest in found for image in manifest.images]
    shared = sum(_largest(image.calls) > _ALONE for image in images)
    adapted = sum(bool(manifest.adapters or manifest.style) for manifest in found)
    return [
        Row("jobs equal bit for bit when made again", f"{equal} of {JOBS}", f"{JOBS} of {JOBS}", equal == JOBS),
        Row("their pictures; of these in model calls with others", f"{len(images)}; {shared}"),
        Row("jobs with LoRAs, a style, or a model made of another", str(adapted)),
        Row("`darkroom replay` says the same", f"{told} of {COMMANDS}", f"{COMMANDS} of {COMMANDS}", told == COMMANDS),
    ]


def _made(running: Running) -> list[Job]:
    draw = random.Random(1)
    latents = running.client.submit(_prompted(draw, running.entry) | {"output": ["latents"]}).wait(600)
    words = {"kind": "embed", "model": running.entry.name, "prompt": "a red fox", "guidance_scale": 4.0}
    embeddings = running.client.submit(words).wait(600)
    files = [job.raise_for_state().files[0].key for job in (latents, embeddings)]
    kinds = _kinds(draw, running.entry, *files)
    handles = [running.client.submit(draw.choice(kinds)()) for _ in range(JOBS)]
    return [handle.wait(timeout=600).raise_for_state() for handle in handles]


def _kinds(draw: random.Random, entry: ModelEntry, latents: str, embeddings: str) -> list[Callable[[], dict[str, Any]]]:
    """Every kind, with whatever it may be asked for by lot."""

    def prompted(**fields: Any) -> dict[str, Any]:
        return _prompted(draw, entry) | fields

    def strength() -> float:
        return draw.choice((0.0, 0.4, 0.9, 1.0))

    return [
        lambda: prompted(),
        lambda: prompted(output=draw.choice((["image"], ["image", "latents"], ["latents"]))),
        lambda: prompted(num_images=1, hires={"scale": 1.5, "upscale": draw.choice(("lanczos", "latent"))}),
        lambda: prompted(kind="img2img", image=_picture(draw), strength=strength(), width=None, height=None),
        lambda: prompted(kind="img2img", image=latents, strength=strength(), width=None, height=None),
        lambda: prompted(kind="inpaint", image=_picture(draw), mask=_mask(draw), width=None, height=None),
        lambda: prompted(kind="inpaint", image=_picture(draw), extend={"left": 16}, width=None, height=None),
        lambda: prompted(prompt="a (red)1.4 fox in (deep)0.5 snow", prompt_syntax="compel"),
        lambda: _encoded_before(prompted(prompt_embeds=embeddings)),
        lambda: prompted(denoising_end=0.5, output=["latents"], scheduler=draw.choice(("euler", "dpmpp_2m", "ddim"))),
        lambda: _interpolated(prompted(prompt_to="a blue bird")),
        lambda: prompted(
            kind="stylize", styles=[_picture(draw)], style_scale=1.0, layout_scale=draw.choice((0.0, 0.5))
        ),
        lambda: prompted(kind="stylize", styles=[_picture(draw), _picture(draw)], style_scale=draw.uniform(0.2, 2.0)),
        lambda: prompted(model=QUICK, num_inference_steps=draw.randint(1, 4)),
        lambda: _plain({name: value for name, value in prompted(kind="embed").items() if name in Embed.model_fields}),
        lambda: {"kind": "encode", "image": _picture(draw), "model": entry.name},
        lambda: {"kind": "decode", "image": latents, "model": entry.name},
    ]


def _prompted(draw: random.Random, entry: ModelEntry) -> dict[str, Any]:
    """Any of the prompts, schedulers, sizes, steps and guidances that the model allows."""
    return {
        "model": entry.name,
        "prompt": draw.choice(("a red fox", "two cats on a roof", "a lake at night, in fog, " * 20)),
        "negative_prompt": draw.choice((None, "", "people")),
        "prompt_2": draw.choice((None, None, "the sea")),
        "clip_skip": draw.choice((None, None, 1)),
        "guidance_rescale": draw.choice((0.0, 0.0, 0.7)),
        "scheduler": draw.choice(entry.schedulers),
        "guidance_scale": draw.choice((0.0, 1.0, 4.0, 9.0)),
        "num_inference_steps": draw.randint(1, 12),
        "num_images": draw.choice((1, 1, 1, 2, 3)),
        "width": draw.choice((32, 48, 64)),
        "height": 64,
        "loras": _loras(draw),
    }


def _loras(draw: random.Random) -> list[dict[str, Any]]:
    """None, one or two, more or less of each."""
    names = draw.sample([name for name in LORAS if name != OWN], draw.choice((0, 0, 1, 2)))
    return [{"name": name, "scale": round(draw.uniform(-1.0, 1.5), 3)} for name in names]


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Without LoRAs: none of these changes text encoders."""
    return {name: value for name, value in fields.items() if name != "loras"}


def _interpolated(fields: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "interpolate", "frames": 1 + fields.pop("num_images"), **fields}


def _encoded_before(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what says how texts are read."""
    return {name: value for name, value in fields.items() if name not in ("negative_prompt", "prompt_2", "clip_skip")}


def _picture(draw: random.Random) -> str:
    return _data_url(Image.frombytes("RGB", (48, 40), draw.randbytes(48 * 40 * 3)))


def _mask(draw: random.Random) -> str:
    mask = Image.new("L", (48, 40))
    mask.paste(255, (8, 8, 8 + draw.randint(8, 40), 32))
    return _data_url(mask)


def _data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _replayed(manifests: list[Manifest], running: Running, store: ObjectStore) -> Iterator[bool]:
    """Of each, whether all its pictures are equal and nothing was otherwise than recorded."""
    own = {name.removeprefix("DARKROOM_").lower(): value for name, value in running.environment.items()}
    settings = WorkerSettings.model_validate({name: own[name] for name in ("device", "threads", "models_dir")})
    placement = choose_placement(settings)
    contents = load_contents(Path(running.environment["DARKROOM_CATALOGUE"]))
    with make_engine(placement) as engine:
        generators = Pinned(contents, placement, settings, engine).generators([running.entry])
        for manifest in manifests:
            again = Replay(manifest, generators[manifest.model.name], partial(_load, store))
            pictures = all(image.equal for image in again.images())
            yield pictures and all(file.equal for file in again.files) and not again.differences


def _load(store: ObjectStore, reference: str) -> bytes:
    tenant, settings = "default", StorageSettings()
    return read_input(
        reference, tenant=tenant, store=store, settings=settings, owns_output=lambda _: True, latents=True
    )


def _command_agrees(job: Job, running: Running) -> bool:
    assert job.result
    command = [sys.executable, "-m", "darkroom.cli", "replay", job.result.manifest]
    return subprocess.run(command, env={**os.environ, **running.environment}, stdout=subprocess.DEVNULL).returncode == 0


def _largest(record: str) -> int:
    """The most rows of a model call that this picture was in."""
    return max((int(bucket) for bucket in re.findall(r"(?:^|[ x+])(\d+):", record)), default=0)
