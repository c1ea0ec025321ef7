"""The measurement of serving, as a command, with a tiny model and load."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.nursery import nursery


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def serve(folder: Path, cache: Path, *arguments: str) -> str:
    """What the command prints."""
    command = [nursery().python, "-m", "bench.serve", *arguments, "--geometry", "tiny"]
    done = subprocess.run([*command, "--out", folder, "--cache", cache], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cells_of_one_model_are_measured_side_by_side_and_not_again(tmp_path: Path, cache: Path) -> None:
    cells = ("sdxl-512-16", "sdxl-512-alone")
    asked = ("--cell", *cells, "--sides", "stock,darkroom", "--rounds", "1", "--seconds", "0.1")
    shown = serve(tmp_path, cache, *asked)
    for cell in cells:
        assert f"| {cell}-tiny | (a) Celery + diffusers |" in shown
        assert f"| {cell}-tiny | (c) Darkroom |" in shown
    records = [json.loads((tmp_path / f"{cell}-tiny.json").read_bytes()) for cell in cells]
    for record in records:
        assert all(round_["samples"] for rounds in record["sides"].values() for round_ in rounds)
        looks = record["looks"].values()
        assert len(looks) == 2 and max(max(values) - min(values) for values in zip(*looks, strict=True)) <= 2
    before = (tmp_path / f"{cells[0]}-tiny.json").read_bytes()
    serve(tmp_path, cache, "--cell", cells[0], *asked[3:])
    assert (tmp_path / f"{cells[0]}-tiny.json").read_bytes() == before


def test_a_trace_tells_what_ran_beside_the_denoiser(tmp_path: Path, cache: Path) -> None:
    shown = serve(tmp_path, cache, "--trace", "sdxl-512-16")
    assert [line.split(" | ")[0] for line in shown.splitlines()[2:]] == [
        "| all of the time", "| text encoders", "| VAE decoder", "| PNG encoding", "| storing",
    ]  # fmt: skip
    events = json.loads((tmp_path / "traces" / "sdxl-512-16-tiny.json").read_bytes())["traceEvents"]
    assert not [event for event in events if event.get("cat") == "cpu_op"]


def test_pictures_with_loras_are_asked_of_a_worker_that_has_them(tmp_path: Path, cache: Path) -> None:
    asked = ("--cell", "sdxl-1024-loras", "--sides", "loras", "--rounds", "1", "--seconds", "0.1")
    assert "| (c) a LoRA in each picture |" in serve(tmp_path, cache, *asked)
    assert len(list(cache.glob("tiny-sdxl-loras/*.safetensors"))) == 8
