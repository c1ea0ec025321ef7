"""`python -m bench.start OTHER_PYTHON`: start and memory of a worker here against that of another release.

`OTHER_PYTHON` is the interpreter of an environment that the other one is installed in. They start in turn, and are idle
when their memory is read. A tiny model has no LoRAs and no style; the one that comes with Darkroom has both, where the
release has them, and tries them before its first job.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench.table import Row, show
from darkroom.cli.demo.server import LocalServer
from darkroom.worker.models.tiny import make_tiny

MOST = 1.05


Start = tuple[float, int]  # seconds until it takes jobs, and the bytes that it then holds


def compare(here: str, other: str, rounds: int) -> list[Row]:
    """Medians over rounds of one interpreter's workers against the other's."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, LocalServer() as server:
        folder = Path(name)
        entry = make_tiny("sdxl", folder / "tiny")  # without defaults, of which the other may not know some
        tiny = entry.model_dump(mode="json", exclude_defaults=True) | {"source": entry.source.model_dump(mode="json")}
        (folder / "catalogue.json").write_text(json.dumps({"models": [tiny]}))
        for model, mark in ((tiny["name"], MOST), ("starter", None)):
            found: dict[str, list[Start]] = {here: [], other: []}
            for number in range(rounds):
                for python in (here, other) if number % 2 else (other, here):
                    found[python].append(_started(python, model, folder, server.url))
            rows += _rows(model, mark, found[here], found[other])
    return rows


def _rows(model: str, mark: float | None, mine: list[Start], theirs: list[Start]) -> Iterator[Row]:
    (seconds, memory), (before, less) = (map(statistics.median, zip(*starts, strict=True)) for starts in (mine, theirs))
    for what, value, ratio in (
        ("starts in", f"{seconds:.1f} s", seconds / before),
        ("idle has", f"{memory / 1e6:.0f} MB", memory / less),
    ):
        text, met = ("", True) if mark is None else (f"<= {mark}", ratio <= mark)
        yield Row(f"a worker of {model} {what}", f"{value}; {ratio:.3f} of the other", text, met)


def _started(python: str, model: str, folder: Path, redis_url: str) -> Start:
    own = {
        "DARKROOM_REDIS_URL": redis_url,
        "DARKROOM_STORAGE_URL": (folder / "objects").as_uri(),
        "DARKROOM_CATALOGUE": str(folder / "catalogue.json"),
        "DARKROOM_MODELS_DIR": str(folder / "models"),
        "DARKROOM_DEVICE": "cpu",
        "DARKROOM_LOG_FORMAT": "json",
    }
    command = [python, "-m", "darkroom.worker", model]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=folder, env=os.environ | own, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            if not any(_is_ready(line) for line in process.stderr):
                raise SystemExit(f"the worker of {python} ended before it was ready")
            return time.monotonic() - began, psutil.Process(process.pid).memory_info().rss
        finally:
            process.terminate()


def _is_ready(line: str) -> bool:
    return line.startswith("{") and json.loads(line).get("action") == "worker.ready"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", metavar="OTHER_PYTHON")
    parser.add_argument("--rounds", type=int, default=6)
    asked = parser.parse_args()
    rows = compare(sys.executable, asked.other, asked.rounds)
    show(rows)
    sys.exit(0 if all(row.met for row in rows) else 1)
