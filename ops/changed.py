"""Prints the unit tests of what changed: in files not committed yet, or where there are none, in the last commit.

The tests of a module are those that import it; a changed test is one of them itself. `make check` runs them.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "tests" / "unit"
ALWAYS = {UNIT / "test_layers.py", UNIT / "test_docs.py"}


def changed(root: Path = ROOT) -> list[Path]:
    """Paths below `root` of files that are not as they were committed; of those of the last commit where all are."""
    edited = _git(root, "diff", "--name-only", "HEAD") + _git(root, "ls-files", "--others", "--exclude-standard")
    return [root / name for name in edited or _git(root, "diff", "--name-only", "HEAD~1")]


def suspects(files: list[Path]) -> set[Path]:
    """The files of unit tests that have to do with `files`."""
    names = {_module(file) for file in files if file.suffix == ".py"}
    tests = {test: test.read_text() for test in UNIT.rglob("test_*.py")}
    return {test for test, text in tests.items() if test in files or any(_imports(text, name) for name in names)}


def _module(file: Path) -> str:
    """`worker/images/pictures.py` -> `worker.images.pictures`."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(text: str, module: str) -> bool:
    package, _, name = module.rpartition(".")
    return any(f"{form} " in text for form in (f"{module} import", f"import {module}", f"{package} import {name}"))


def _git(root: Path, *arguments: str) -> list[str]:
    return subprocess.run(  # noqa: S603  arguments of ours
        ["git", *arguments],  # noqa: S607  the one that the developer uses
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")[:-1]


if __name__ == "__main__":
    sys.stdout.write("\n".join(sorted(str(test.relative_to(ROOT)) for test in ALWAYS | suspects(changed()))) + "\n")
