"""Jobs that would be given up with their workers: each has one last run, alone in a worker that has drained for it."""

import json
from collections.abc import Sequence

from darkroom.tasks.places import Place
from darkroom.tasks.redis_io import Operation, script


def ask_alone(worker: str, seconds: float, places: Sequence[Place]) -> Operation[str]:
    """The job in these lanes for which this worker is to drain, or an empty text; of a tenant there is one at a time.

    Nobody else drains for it meanwhile, so many seconds at most, and a claim by its id has it.
    """
    lanes = json.dumps([str(place) for place in places])
    return str((yield script("ask_alone", worker, round(seconds * 1000), lanes)).decode())


def leave_alone(worker: str, job_id: str) -> Operation[None]:
    """The worker takes other jobs again."""
    yield script("leave_alone", worker, job_id)
