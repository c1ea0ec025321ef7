"""`make check` runs the tests of what changed."""

import subprocess
from pathlib import Path

import pytest

from ops.changed import ROOT, UNIT, changed, suspects


@pytest.mark.parametrize(
    ("file", "its", "other"),
    [
        ("worker/images/pictures.py", "worker/images/test_pictures.py", "storage/test_keys.py"),
        ("tasks/__init__.py", "tasks/test_surface.py", "storage/test_keys.py"),
        ("tests/unit/storage/test_keys.py", "storage/test_keys.py", "tasks/test_surface.py"),
    ],
)
def test_the_suspects_a_file_are_those_that_import_it(file: str, its: str, other: str) -> None:
    found = suspects([ROOT / file])
    assert UNIT / its in found
    assert UNIT / other not in found


def test_what_is_not_committed_has_changed_and_else_the_last_commit(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    for name in ("first", "second"):
        (tmp_path / name).touch()
        git("add", name)
        git("commit", "-m", name)
    assert changed(tmp_path) == [tmp_path / "second"]
    (tmp_path / "first").write_text("edited")
    (tmp_path / "new").touch()
    assert changed(tmp_path) == [tmp_path / "first", tmp_path / "new"]
