"""The page that adds a kind, done step by step in a copy of Darkroom: it then works from the command to replay."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from darkroom.cli.demo.server import LocalServer
from tests.acceptance.conftest import MODEL, Installation, _wait_until_served
from tests.conftest import TinyModels
from tests.nursery import nursery

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "12-a-new-kind.md").read_text()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Darkroom's packages with the page's steps done."""
    tree = tmp_path_factory.mktemp("tree")
    for package in ("tasks", "storage", "worker", "cli"):
        shutil.copytree(
            ROOT / package, tree / "darkroom" / package, ignore=shutil.ignore_patterns("__pycache__", "starter")
        )
    for name, text in re.findall(r"^`([^`]+)`\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        file = tree / "darkroom" / name
        assert not file.exists()
        file.write_text(text)
    for name, after, more in re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \|$", PAGE, re.MULTILINE):
        file = tree / "darkroom" / name
        before, added = (part.replace("\\n", "\n").replace("\\|", "|") for part in (after, more))
        assert file.read_text().count(before) == 1, (name, before)
        file.write_text(file.read_text().replace(before, before + added))
    return tree


@pytest.fixture(scope="module")
def changed(installation: Installation, tiny_models: TinyModels, tree: Path) -> Iterator[Installation]:
    """An installation whose commands and worker are the changed ones."""
    log, catalogue = tree / "worker.log", tree / "catalogue.json"
    entry = tiny_models("sdxl").model_dump(mode="json", exclude={"kinds"})  # all that there are
    catalogue.write_text(json.dumps({"models": [entry]}))
    with LocalServer() as server, log.open("wb") as output:
        found = Installation(tree, server.url, {**installation.environment, "PYTHONPATH": str(tree)})
        places = {"REDIS_URL": server.url, "STORAGE_URL": (tree / "objects").as_uri(), "CATALOGUE": str(catalogue)}
        found.environment.update({f"DARKROOM_{name}": place for name, place in places.items()})
        worker = subprocess.Popen(
            [nursery().python, "-m", "darkroom.cli", "worker", "--model", MODEL, "--device", "cpu"],
            cwd=tree, env={**os.environ, **found.environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            _wait_until_served(found, worker, log)
            yield found
            worker.send_signal(signal.SIGINT)
            assert worker.wait(60) == 0, log.read_text()
        finally:
            if worker.poll() is None:
                worker.kill()


def command(where: Installation, *arguments: str | Path) -> str:
    done = subprocess.run(
        [nursery().python, "-m", "darkroom.cli", *map(str, arguments)],
        cwd=where.folder, env={**os.environ, **where.environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_page_is_enough(changed: Installation, tmp_path: Path) -> None:
    assert "--threshold" in command(changed, "submit", "--help")
    common = ("a large red star", "--seed", "3", "--wait", "--save")
    command(changed, "submit", *common, tmp_path / "plain.png", "--batching", "solo")
    said = command(changed, "submit", *common, tmp_path / "turned.png", "--threshold", "100", "--batching", "solo")
    plain, turned = (Image.open(tmp_path / f"{name}.png") for name in ("plain", "turned"))
    expected = plain.convert("RGB").point([level if level < 100 else 255 - level for level in range(256)] * 3)
    assert turned.convert("RGB").tobytes() == expected.tobytes() != plain.convert("RGB").tobytes()
    assert "Solarize: 100" in turned.info["parameters"]
    job_id = said.splitlines()[0]
    assert "equal, bit for bit" in command(changed, "replay", job_id)


def test_what_is_wrong_is_told_by_its_option(changed: Installation) -> None:
    done = subprocess.run(
        [nursery().python, "-m", "darkroom.cli", "submit", "a star", "--threshold", "300", "--model", MODEL],
        cwd=changed.folder, env={**os.environ, **changed.environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--threshold: " in done.stderr
    assert "255" in done.stderr
