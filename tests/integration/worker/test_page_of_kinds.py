"""The Python of docs/11-kinds.md, as it stands there."""

import re
from pathlib import Path

import pytest

from tests.unit.worker.conftest import photo

from .processes import Process
from .studio import Studio

PAGE = Path(__file__).parents[3] / "docs/11-kinds.md"


def test_the_example_runs(studio: tuple[Studio, Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    at_work, _ = studio
    monkeypatch.chdir(tmp_path)
    for name, value in at_work.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DARKROOM_DEFAULT_MODEL", at_work.model)
    photo(1, 64, 64).save("photo.png")
    mask = photo(1, 64, 64).point([0] * 768)
    mask.paste("white", (16, 16, 48, 48))
    mask.save("mask.png")
    exec(compile(block, str(PAGE), "exec"), {})
    made = {path.name for path in tmp_path.iterdir()} - {"photo.png", "mask.png"}
    assert {name.partition("-")[0] for name in made} == {"star", "wide", "large", "again", "way"}
    assert {"large-0.png", "large-1.safetensors", "way-7.png"} <= made
