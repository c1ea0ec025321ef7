"""`darkroom demo`: from nothing to two pictures, and nothing left running, whenever it ends."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.acceptance.conftest import SECRET, Installation
from tests.nursery import nursery

MARK = "DARKROOM_TEST_MARK"
Demo = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def mark() -> str:
    """A variable that the demo's processes inherit, so that they are known again."""
    return uuid.uuid4().hex


@pytest.fixture
def demo(mark: str) -> Iterator[Demo]:
    """Starts demos; whatever is left of them in the end is killed, and the test fails."""

    def start(
        folder: Path, *arguments: str, python: str = nursery().python, **environment: str
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [python, "-m", "darkroom.cli", "demo", "--output", str(folder), *arguments],
            env={**os.environ, MARK: mark, "DARKROOM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    yield start
    left = processes(mark)
    for process in left:
        process.kill()
    assert left == []


def processes(mark: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if has(process, mark)]


def has(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that several demos of this file share."""
    return tmp_path_factory.mktemp("demo") / "new" / "darkroom-data"


def test_two_at_once_in_one_folder_on_a_bundled_and_a_configured_server(
    demo: Demo, mark: str, kept: Path, installation: Installation
) -> None:
    plain = demo(kept, python=sys.executable)  # all of its processes are the real ones
    told = read_until(plain, "server")
    staying = demo(kept, "--json", "--stay", DARKROOM_REDIS_URL=installation.redis_url)
    told += plain.communicate(timeout=600)[0]  # it imports torch twice: two minutes where others want the cores
    assert plain.returncode == 0, told
    pictures = [Path(line.split()[1]) for line in told.splitlines() if line.startswith("picture")]
    assert len(pictures) == 3
    assert all(picture.is_file() for picture in pictures)
    for words in (
        "star on a blue",
        "step 20 of 20",
        "txt2img",
        "img2img",
        "10 pictures",
        "manifest",
        "darkroom replay",
    ):
        assert words in told
    with Image.open(kept / "contact-sheet.png") as sheet:
        assert sheet.width > 4 * 128
        assert sheet.height > 3 * 128

    document = json.loads(read_until(staying, "{").splitlines()[-1])
    assert [job["kind"] for job in document["jobs"]] == ["txt2img", "img2img", *["txt2img"] * 10]
    assert document["jobs"][1]["request"]["image"] == document["jobs"][0]["images"][0]["key"]
    assert all(Path(place).is_file() for place in document["manifests"].values())
    assert document["environment"].keys() == {"DARKROOM_STORAGE_URL", "DARKROOM_REDIS_PREFIX"}
    how = read_until(staying, "  darkroom submit")
    assert "In a second terminal, with DARKROOM_REDIS_URL as here:" in how
    for name, value in document["environment"].items():
        assert f"export {name}='{value}'" in how
    assert SECRET not in json.dumps(document) + how
    assert not any("valkey" in process.name() or "redis" in process.name() for process in processes(mark))
    staying.send_signal(signal.SIGINT)
    rest = staying.communicate(timeout=60)[0]
    assert staying.returncode == 0, rest
    assert processes(mark) == []


def read_until(process: "subprocess.Popen[str]", start: str) -> str:
    """Its output up to the line that begins so."""
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if line.startswith(start):
            return told
    pytest.fail(f"it ended: {told}")


@pytest.mark.parametrize("moment", ["server", "worker", "txt2img", "sheet"])
def test_ctrl_c_leaves_nothing_behind(demo: Demo, mark: str, kept: Path, moment: str) -> None:
    process = demo(kept)
    read_until(process, moment)
    assert processes(mark)
    os.killpg(process.pid, signal.SIGINT)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert processes(mark) == []


def test_a_worker_that_cannot_start_shows_its_log(demo: Demo, kept: Path) -> None:
    process = demo(kept, DARKROOM_CONCURRENCY="-1")
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert "  | error: DARKROOM_CONCURRENCY: " in told
    assert "the worker ended before it was ready" in told


def test_a_folder_that_cannot_be_made(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = demo(tmp_path / "file" / "data")
    assert "Not a directory" in process.communicate(timeout=30)[0]
    assert process.returncode == 1
