"""The last release, out of the repository's own history, beside this one with a field more: on one Redis."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.needs import RELEASED_VALUES
from darkroom.tasks.offers import RELEASED_OFFER
from tests.nursery import nursery

from .processes import Process
from .studio import Studio

ROOT = Path(__file__).parents[3]
LAST = "bfc3577e5fe0f62e0a05c1cbb2a556a513362962"  # the commit of the last release

#: A worker of this release that knows a field which no release knows yet.
LATER = """
import sys
from darkroom.worker.__main__ import main
from darkroom.worker.process.leaving import leave
from tests.toys import later_release
with later_release():
    code = main()
leave(code)
"""

#: What a producer is told, as JSON on its standard input, and what it answers.
PRODUCER = """
import json, sys
from darkroom.tasks import Darkroom
asked = json.load(sys.stdin)
with Darkroom() as client:
    jobs = [client.submit(fields) for fields in asked["submit"]]
    market = client.models()
    offers = {name: offer.model_dump(mode="json") for name, offer in market.offers.items()}
    states = [client.get(job_id).state for job_id in asked["read"]]
    print(json.dumps({"jobs": [job.id for job in jobs], "warnings": [job.warnings for job in jobs],
                      "workers": market.workers, "offers": offers, "states": states,
                      "dead": [job.id for job in client.dead()], "unreadable": client.jobs().unreadable}))
"""


class LastRelease:
    """Producers and workers of the last release; the libraries are those of this one."""

    def __init__(self, folder: Path) -> None:
        self._first = {"PYTHONPATH": str(folder)}

    def produce(self, studio: Studio, submit: list[dict[str, Any]], read: list[str] | None = None) -> dict[str, Any]:
        """A producer that submits and reads."""
        asked = json.dumps({"submit": submit, "read": read or []})
        ran = nursery().run(["-c", PRODUCER], {**studio.environment, **self._first}, text=asked)
        assert ran.returncode == 0, ran.stderr
        found: dict[str, Any] = json.loads(ran.stdout)
        return found

    @contextmanager
    def worker(self, studio: Studio) -> Iterator[Process]:
        """A worker of the last release."""
        with Process(["-m", "darkroom.worker", studio.model], {**studio.environment, **self._first}) as process:
            process.wait_for("worker.ready")
            yield process


@contextmanager
def later_worker(studio: Studio) -> Iterator[Process]:
    """A worker that has `glow`."""
    with Process(["-c", LATER, studio.model], studio.environment) as process:
        process.wait_for("worker.ready")
        yield process


def last_release(folder: Path) -> LastRelease:
    """Unpacks it; skips where the checkout has no history."""
    packages = ("tasks", "storage", "worker", "cli")
    command = ["git", "archive", "--prefix=darkroom/", LAST, *packages]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if ran.returncode:
        pytest.skip(f"this checkout lacks the commit of the last release (a shallow clone?): {ran.stderr.decode()}")
    with tarfile.open(fileobj=io.BytesIO(ran.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return LastRelease(folder)


def readable_to_both(entry: ModelEntry) -> str:
    """The catalogue's entry as JSON with what the last release knows."""
    data = entry.model_dump(mode="json")
    found = {name: data[name] for name in [*RELEASED_OFFER[""], "source"]}
    parts = {part: {name: data[part][name] for name in RELEASED_OFFER[part]} for part in ("defaults", "limits")}
    return json.dumps({"models": [{**found, **parts, "kinds": RELEASED_VALUES["kind"]}]})
