"""`darkroom doctor`: looks at every part that a job needs, and says what to do."""

from collections.abc import Iterator
from typing import Annotated

import typer

from darkroom.cli.doctor import checks, lora_checks, queue_checks, style_checks
from darkroom.cli.doctor.check import Check
from darkroom.cli.errors import EXIT_FAILED
from darkroom.cli.options import AsJson, Catalogue, ModelsDir, set_environment
from darkroom.cli.screen import Screen, printable

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "broken": ("broken", "bold red")}


def doctor(
    *,
    digests: Annotated[bool, typer.Option("--digests", help="Read every model file and compare its digest.")] = False,
    catalogue: Catalogue = None,
    models_dir: ModelsDir = None,
    as_json: AsJson = False,
) -> int:
    """Check versions, server, workers, jobs, storage, models, LoRAs, devices, and say what to do.

    Exits 1 if one is broken.
    """
    screen = Screen(as_json=as_json)
    set_environment(catalogue=catalogue, models_dir=models_dir)
    found: list[Check] = []
    for check in _all(digests=digests):
        found.append(check)
        if not as_json:
            _show(check, screen)
    broken = any(check.state == "broken" for check in found)
    if as_json:
        screen.line({"ok": not broken, "checks": [check.as_dict() for check in found]})
    return EXIT_FAILED if broken else 0


def _all(*, digests: bool) -> Iterator[Check]:
    """Part by part, each as soon as it is known."""
    yield from checks.guarded("versions", checks.versions)
    yield from checks.guarded("server", checks.server)
    yield from checks.guarded("workers", checks.workers)
    yield from checks.guarded("jobs", queue_checks.jobs)
    yield from checks.guarded("storage", checks.storage)
    yield from checks.guarded("models", lambda: checks.models(digests=digests))
    yield from checks.guarded("loras", lambda: lora_checks.loras(digests=digests))
    yield from checks.guarded("styles", lambda: style_checks.styles(digests=digests))
    yield from checks.guarded("device", checks.device)


def _show(check: Check, screen: Screen) -> None:
    mark, style = _MARKS[check.state]
    screen.out.print(f"{mark:8}", style=style, end="")
    screen.out.print(f"{check.part}: {printable(check.message)}")
    if check.hint:
        screen.out.print(f"{'':8}{printable(check.hint)}", style="dim")
