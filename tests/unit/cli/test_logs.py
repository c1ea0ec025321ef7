"""Standard output is for results: a command that runs what a worker logs of says where its lines go."""

import pytest

from tests.unit.test_layers import is_room, modules, own_modules, roots


def reached(module: str) -> set[str]:
    """A module of the worker, and all of ours that it imports, directly or not."""
    found, left = {module}, [module]
    while left:
        left += (new := own_modules(left.pop()) - found)
        found |= new
    return found


def logs(module: str) -> bool:
    return any("structlog" in roots(name) for used in own_modules(module) if is_room(used) for name in reached(used))


def command(module: str) -> str:
    """The file or folder in `cli/`."""
    return module.split(".")[2]


CLI = [name for name in modules() if name.startswith("darkroom.cli.")]
COMMANDS = sorted({command(module) for module in CLI if logs(module)})


def test_there_are_such_commands() -> None:
    assert {"gc", "replay", "worker"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_lines_of_the_workers_rooms_go_to_standard_error(name: str) -> None:
    files = [modules()[module] for module in CLI if command(module) == name]
    assert any("configure_logs(" in file.read_text() for file in files)
