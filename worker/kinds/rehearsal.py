"""A dry run of a training: some of its steps are made and forgotten, and what all of it takes follows from them."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from darkroom.tasks.requests import Finetune, JobRequest
from darkroom.worker.kinds.base import Run
from darkroom.worker.kinds.products import ProducedFile
from darkroom.worker.training.session import Session
from darkroom.worker.training.taken import Taken, memory_in_use

MOST_STEPS = 5  # that are measured, after one that is not
ENOUGH_SECONDS = 30.0  # of measured steps: of slow ones fewer do


def rehearsed(
    request: Finetune,
    run: Run,
    begin: Callable[[], Session],
    metadata: Mapping[str, str],
    pictures: Mapping[str, Sequence[JobRequest]],
) -> ProducedFile:
    """A file of the role `estimate`. `begin` starts the training, of which nothing is kept; `metadata` of its LoRA.

    `pictures`: requests of those it would make, by what they are for; one of each is made.
    """
    painting = {f"seconds_{what}": _painting(asked, run) for what, asked in pictures.items() if asked}
    before = memory_in_use(run.device)
    session = begin()
    began = time.perf_counter()
    first = session.rehearse()
    encoding = (time.perf_counter() - began - first.seconds) / request.recipe.batch_size
    steps, checkpoint = _measured(session, run), len(session.checkpoint())
    said = {
        **_course(request, session),
        **painting,
        **_times(request, session, median(step.seconds for step in steps), encoding, sum(painting.values())),
        "measured_steps": len(steps),
        "memory_bytes": _most(before, [first, *steps], checkpoint),
        "memory_of": "device" if run.device.type == "cuda" else "process",
        "lora_bytes": len(session.lora(**metadata)),
        "checkpoint_bytes": checkpoint,
    }
    return ProducedFile("estimate", json.dumps(said, indent=2).encode(), extension="json")


def _measured(session: Session, run: Run) -> list[Taken]:
    steps = list[Taken]()
    while len(steps) < MOST_STEPS and sum(step.seconds for step in steps) < ENOUGH_SECONDS:
        steps.append(session.rehearse())
        run.journal.step(len(steps), MOST_STEPS, {}, None)
    return steps


def _course(request: Finetune, session: Session) -> dict[str, Any]:
    """What the training is made of."""
    passes = request.recipe.batch_size * request.gradient_accumulation
    counts = sorted(Counter(session.sizes).items())
    return {
        "pictures": len(session.sizes),
        "buckets": [{"width": wide, "height": high, "pictures": count} for (wide, high), count in counts],
        "steps": session.steps,
        "pictures_per_step": passes,
        "epochs": round(session.steps * passes / len(session.sizes), 2),
    }


def _painting(requests: Sequence[JobRequest], run: Run) -> float:
    """Seconds that all of them take, one after the other."""
    began = time.perf_counter()
    run.pictures(requests[:1], lambda *_: None)
    return round(len(requests) * (time.perf_counter() - began), 1)


def _times(request: Finetune, session: Session, a_step: float, encoding: float, painting: float) -> dict[str, float]:
    """Each picture is encoded once, and once more where it is flipped; all steps are taken for the largest."""
    seen = len(session.sizes) * (2 if request.flip else 1)
    drawn = session.steps * request.recipe.batch_size * request.gradient_accumulation
    encoded = min(seen, drawn) * encoding
    return {
        "seconds_per_step": round(a_step, 4),
        "seconds_encoding": round(encoded, 2),
        "seconds": round(session.steps * a_step + encoded + painting, 1),
    }


def _most(before: int | None, taken: Sequence[Taken], least: int) -> int | None:
    """Bytes beyond what was in use before; `least` are in use for certain, by the LoRA and its optimizer."""
    peaks = [one.peak for one in taken if one.peak is not None]
    return None if before is None or not peaks else max(least, max(peaks) - before)
