"""What a LoRA's file on this machine is worth, by its header; torch is loaded for it."""

from dataclasses import dataclass
from pathlib import Path

from darkroom.cli.doctor.inventory import Holding
from darkroom.worker.adapters.facts import inspect_lora
from darkroom.worker.errors import AdapterError, AdapterIncompatible, AdapterMissing
from darkroom.worker.models.opening import trouble


@dataclass(frozen=True, slots=True)
class Worth:
    """`rank` of its widest layer, None where there is no telling; `error`: why no worker can use it."""

    rank: int | None = None
    error: AdapterError | None = None


def worth(held: Holding) -> Worth:
    """Of what is held of one LoRA."""
    for path in held.wrong:
        return Worth(error=AdapterMissing(f"{path} {trouble(Path(path)) or 'has another size than was pinned'}"))
    if not held.files:
        return Worth()
    try:
        facts = inspect_lora(held.files[0][1])
    except AdapterError as error:
        return Worth(error=error)
    if facts.faults:
        return Worth(error=AdapterIncompatible(f"{facts.path}: {'; '.join(facts.faults)}"))
    return Worth(facts.rank or None)
