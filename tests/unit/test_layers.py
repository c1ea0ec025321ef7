"""Imports run one way and in no circle, those inside functions included."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("tasks", "storage", "worker", "cli")

MAY_IMPORT = {
    "tasks": {"tasks"},
    "storage": {"storage"},
    "worker": {"worker", "tasks", "storage"},
    "cli": {"cli", "worker", "tasks", "storage"},
}
FORBIDDEN = {
    "tasks": {
        "torch",
        "diffusers",
        "transformers",
        "boto3",
        "botocore",
        "celery",
        "kombu",
        "PIL",
        "structlog",
        "numpy",
    },
    "storage": {"torch", "diffusers", "transformers", "celery", "kombu", "redis", "structlog"},
    "worker": {"boto3", "botocore", "typer", "rich"},
    "cli": {"boto3", "botocore"},
}

# The worker's rooms, the highest first: a room may import those below it. A file at the top of `worker/` is a floor of
# its own.
ROOMS = (
    "__main__",
    "process",
    "delivery",
    "images",
    "kinds",
    "training",
    "adapters",
    "models",
    "batching",
    "failures",
    "errors",
    "settings",
    "caches",
    "spans",
)


@cache
def modules() -> dict[str, Path]:
    """`darkroom.tasks.job` -> its file, for every module of ours."""
    found = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(("darkroom", *parts)).removesuffix(".__init__")] = file
    return found


@cache
def imported(module: str) -> frozenset[str]:
    """Every name that a module imports, wherever in it: a module, or a module and a name of it."""
    tree = ast.parse(modules()[module].read_text())
    return frozenset(name for node in ast.walk(tree) for name in names_of(node))


def names_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "write absolute imports"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_modules(module: str) -> set[str]:
    """The modules of ours that a module imports."""
    found = set()
    for name in imported(module):
        if name.startswith("darkroom."):
            found.add(name if name in modules() else name.rpartition(".")[0])
    return found


def roots(module: str) -> set[str]:
    """The libraries that a module imports."""
    return {name.partition(".")[0] for name in imported(module)}


def test_there_is_something_to_look_at() -> None:
    assert "darkroom.tasks.redis_io" in own_modules("darkroom.tasks.client")
    assert len(modules()) > 50


@pytest.mark.parametrize("module", sorted(modules()))
def test_packages_import_only_what_they_may(module: str) -> None:
    package = module.split(".")[1]
    assert {name.split(".")[1] for name in own_modules(module)} <= MAY_IMPORT[package]
    assert not roots(module) & FORBIDDEN[package]


@pytest.mark.parametrize("module", sorted(name for name in modules() if name.startswith("darkroom.worker.")))
def test_the_workers_rooms_import_downwards_only(module: str) -> None:
    floor = ROOMS.index(room(module))
    assert {name for name in own_modules(module) if is_room(name) and ROOMS.index(room(name)) < floor} == set()


def room(module: str) -> str:
    return module.split(".")[2]


def is_room(module: str) -> bool:
    return module.startswith("darkroom.worker.")


def test_boto3_has_one_door() -> None:
    users = {module for module in modules() if {"boto3", "botocore"} & roots(module)}
    assert users == {"darkroom.storage.s3", "darkroom.storage.s3_errors"}


def test_redis_has_one_door() -> None:
    """Only the driver, Celery's transport and the server for demos speak redis-py."""
    users = {module for module in modules() if "redis" in roots(module)}
    assert users == {
        "darkroom.tasks.connections",
        "darkroom.tasks.redis_io",
        "darkroom.worker.process.transport",
        "darkroom.cli.demo.server",
    }


def test_there_are_no_circles() -> None:
    """Each module can be put behind all that it imports."""
    left = {module: own_modules(module) - {module} for module in modules()}
    while left:
        free = {module for module, needs in left.items() if not needs & left.keys()}
        assert free, f"a circle among {sorted(left)}"
        left = {module: needs for module, needs in left.items() if module not in free}


def test_all_files_carry_types() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file()
