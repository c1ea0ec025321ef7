"""The wheel as a user installs it, beside files of his own that are called as our folders are."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("tasks", "storage", "worker", "cli")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since a build leaves files beside its sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out), ".",
        folder=source)  # fmt: skip
    (built,) = out.glob("darkroom-*.whl")
    return built


def run(*command: str, folder: Path, **environment: str) -> str:
    ran = subprocess.run(command, cwd=folder, env=environment or None, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_every_file_of_the_packages_is_in_it(wheel: Path) -> None:
    inside = {name.removeprefix("darkroom/") for name in zipfile.ZipFile(wheel).namelist()}
    kinds = ("*.py", "*.lua", "*.json", "py.typed")
    ours = {str(f.relative_to(ROOT)) for package in PACKAGES for kind in kinds for f in (ROOT / package).rglob(kind)}
    assert {"tasks/scripts/submit.lua", "tasks/catalogue.json", "tasks/py.typed"} <= ours
    assert ours <= inside


def test_nothing_else_is_in_it(wheel: Path) -> None:
    """No top-level `tasks`, no tests, no benches."""
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"darkroom"}


def test_it_lives_beside_a_users_own_files(wheel: Path, tmp_path: Path) -> None:
    site, app = tmp_path / "site", tmp_path / "app"
    app.mkdir()
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel),
        folder=tmp_path)  # fmt: skip
    for name in ("tasks", "storage", "worker", "cli"):
        (app / f"{name}.py").write_text("mine = True\n")
    program = (
        "import tasks, storage, worker, cli, darkroom.tasks, darkroom.storage\n"
        "from darkroom.tasks.catalogue import builtin_catalogue\n"
        "from darkroom.tasks.redis_io import _source\n"
        "assert tasks.mine and storage.mine and worker.mine and cli.mine\n"
        "assert builtin_catalogue() and _source('submit')\n"
        "print(darkroom.tasks.__file__)\n"
    )
    said = run(sys.executable, "-c", program, folder=app, PYTHONPATH=str(site))
    assert Path(said.strip()) == site / "darkroom" / "tasks" / "__init__.py"


def test_it_names_its_command_and_its_store(wheel: Path) -> None:
    entries = zipfile.ZipFile(wheel)
    (name,) = [name for name in entries.namelist() if name.endswith("entry_points.txt")]
    text = entries.read(name).decode()
    assert "darkroom = darkroom.cli.main:main" in text
    assert "open_store = darkroom.storage:open_store" in text
