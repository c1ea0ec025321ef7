"""Inpainting beside txt2img and img2img: whether its calls are stacked as theirs, and what a picture of it costs."""

import re
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from bench.table import Row
from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.pictures import encode
from darkroom.worker.images.warm import warm
from darkroom.worker.kinds.base import PreparedJob, Sources
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.tuning import make_engine
from darkroom.worker.settings import WorkerSettings

IN_FLIGHT, PICTURES, ROUNDS = 16, 16, 7
STEPS, STRENGTH = 10, 0.8  # of txt2img as many steps as the strength leaves
ALONE = 2  # rows that one guided picture brings to a call
ENTRY = builtin_catalogue()["starter"]
SIDE = ENTRY.defaults.width

Job = tuple[PreparedJob, Sources]


def measure() -> list[Row]:
    """With the model that comes with Darkroom, on the CPU, in this process; rounds of each kind in turn."""
    settings = WorkerSettings(device="cpu")
    placement = choose_placement(settings)
    seconds: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    with make_engine(placement) as engine:
        generator = Generator(load_model(ENTRY, placement, settings), engine)
        warm(generator)
        jobs = _jobs(generator)
        for number in range(ROUNDS):
            for kind, job in [*jobs.items()][:: 1 if number % 2 else -1]:  # the machine is not always as free
                began = time.perf_counter()
                shares.setdefault(kind, []).append(_stacked(_round(generator, job)))
                seconds.setdefault(kind, []).append(time.perf_counter() - began)
    rate = {kind: PICTURES / statistics.median(found) for kind, found in seconds.items()}
    share = {kind: statistics.median(found) for kind, found in shares.items()}
    apart = abs(share["inpaint"] - share["txt2img"])
    against = statistics.median(a / b for a, b in zip(seconds["img2img"], seconds["inpaint"], strict=True))
    return [
        *(Row(f"{kind}: pictures a second; calls stacked", f"{rate[kind]:.2f}; {share[kind]:.1%}") for kind in jobs),
        Row("inpaint's stacked calls against txt2img's", f"{apart:.1%} apart", "<= 5%", apart <= 0.05),
        Row("inpaint's throughput against img2img's", f"{against:.2f}", ">= 0.95", against >= 0.95),
    ]


def _jobs(generator: Generator) -> Mapping[str, Job]:
    source = Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")
    mask = Image.new("L", source.size)
    mask.paste(255, (SIDE // 4, SIDE // 4, SIDE // 2, SIDE // 2))
    files = {"image": encode(source, "png", "")[0], "mask": encode(mask, "png", "")[0]}
    steps = {"num_inference_steps": STEPS, "strength": STRENGTH}
    return {
        "txt2img": _job(generator, {}, num_inference_steps=round(STEPS * STRENGTH)),
        "img2img": _job(generator, {"image": files["image"]}, kind="img2img", **steps),
        "inpaint": _job(generator, files, kind="inpaint", **steps),
    }


def _job(generator: Generator, files: Mapping[str, bytes], **fields: Any) -> Job:
    named = {name: f"inputs/default/{name}.png" for name in files}
    asked = {"prompt": "a large red star on a blue background", "model": ENTRY.name, "guidance_scale": 3.0}
    request = resolve({**asked, **named, **fields}, {ENTRY.name: ENTRY}, lambda: None).filled
    prepared = generator.prepare(request)
    return prepared, prepared.kind.read(prepared, files)


def _round(generator: Generator, job: Job) -> Sequence[Ticket]:
    """So many pictures of other seeds, as many at a time as are in flight; where their calls were."""
    tickets = [Ticket() for _ in range(PICTURES)]
    prepared, sources = job
    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        list(
            threads.map(
                lambda seed: generator.generate(prepared, seed, sources, _ignore, tickets[seed]), range(PICTURES)
            )
        )
    return tickets


def _stacked(tickets: Sequence[Ticket]) -> float:
    """The share of calls that were made with those of others."""
    runs = [found for ticket in tickets for found in re.findall(r"(?:(\d+)x)?(\d+):", str(ticket.placements))]
    counts = [(int(times or 1), int(bucket)) for times, bucket in runs]
    return sum(times for times, bucket in counts if bucket > ALONE) / sum(times for times, _ in counts)


def _ignore(*_: object) -> None:
    """Steps are told to nobody."""
