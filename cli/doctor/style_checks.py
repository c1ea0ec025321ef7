"""The style adapters of the catalogue, for `darkroom doctor`: each that should be here is, with its image encoder."""

from collections.abc import Iterator
from importlib.util import find_spec

from darkroom.cli.doctor.check import Check
from darkroom.cli.screen import size
from darkroom.tasks.adapters import StyleEntry
from darkroom.tasks.catalogue import load_styles
from darkroom.worker.errors import AdapterError
from darkroom.worker.settings import WorkerSettings


def styles(*, digests: bool) -> Iterator[Check]:
    """One finding for each that is here, or should be."""
    settings = WorkerSettings()
    if find_spec("torch") is None:  # comes with the worker's libraries, which `models` tells of
        return
    for entry in load_styles(settings.catalogue).values():
        yield from _style(entry, settings, digests=digests)


def _style(entry: StyleEntry, settings: WorkerSettings, *, digests: bool) -> Iterator[Check]:
    from darkroom.cli.doctor.inventory import style_holding
    from darkroom.worker.adapters.style_file import inspect_style
    from darkroom.worker.adapters.style_found import find_style, opened_files
    from darkroom.worker.adapters.style_places import pin_of_style, style_files

    held = style_holding(entry, settings)
    files = style_files(entry, settings, pin_of_style(entry, settings))
    if files is None:
        return
    verified = digests and (held.locked or entry.digests)
    try:
        inspect_style(files.adapter)
        amount = sum(path.stat().st_size for path in opened_files(files).values())
        if verified or held.wrong:
            find_style(entry, settings)
    except AdapterError as error:
        yield Check("styles", "broken", error.message, error.hint)
        return
    pinned = ", its digests are the pinned ones" if verified else ""
    yield Check("styles", "ok", f"{entry.name} is here ({held.revision}, {size(amount)}){pinned}")
