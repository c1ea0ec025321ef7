"""The LoRAs of the catalogue, for `darkroom doctor`: each that should be here is, and is the one that was pinned."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from darkroom.cli.doctor.check import Check
from darkroom.cli.screen import size
from darkroom.tasks.adapters import LoraEntry
from darkroom.tasks.catalogue import load_loras
from darkroom.worker.errors import AdapterError
from darkroom.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from darkroom.cli.doctor.inventory import Holding


def loras(*, digests: bool) -> Iterator[Check]:
    """One finding for each that is here, or should be."""
    settings = WorkerSettings()
    entries = load_loras(settings.catalogue)
    if find_spec("filelock") is None:  # comes with the worker's libraries, which `models` tells of
        return
    for entry in entries.values():
        yield from _lora(entry, settings, digests=digests)


def _check_header(entry: LoraEntry, held: "Holding") -> None:
    """Raises an AdapterError for a file that no worker can use, as far as its header tells."""
    if find_spec("torch") is None:
        return
    from darkroom.cli.doctor.lora_files import worth

    if error := worth(held).error:
        raise type(error)(f"LoRA {entry.name}: {error.message}", hint=error.hint)


def _lora(entry: LoraEntry, settings: WorkerSettings, *, digests: bool) -> Iterator[Check]:
    from darkroom.cli.doctor.inventory import lora_holding
    from darkroom.worker.adapters.places import find_lora

    held = lora_holding(entry, settings)
    if held.state == "not pulled":
        return
    verified = digests and (held.locked or entry.sha256)
    try:
        if verified or held.wrong:  # what is wrong is told by who would use it
            find_lora(entry, settings)
        _check_header(entry, held)
    except AdapterError as error:
        yield Check("loras", "broken", error.message, error.hint)
        return
    pinned = ", its digest is the pinned one" if verified else ""
    yield Check("loras", "ok", f"{entry.name} is here ({held.revision}, {size(held.bytes)}){pinned}")
