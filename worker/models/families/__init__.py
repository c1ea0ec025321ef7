"""The model families: which parts a model has, which pipelines run it, how its prompt becomes tensors."""

import darkroom.worker.models.quiet  # noqa: F401  before the pipelines are imported
from darkroom.tasks.catalogue import Family
from darkroom.worker.models.families.base import FamilySpec
from darkroom.worker.models.families.playground import PLAYGROUND
from darkroom.worker.models.families.sd import SD
from darkroom.worker.models.families.sdxl import SDXL
from darkroom.worker.models.families.sdxl_refiner import SDXL_REFINER

__all__ = ["FamilySpec", "family"]

_FAMILIES: dict[Family, FamilySpec] = {"sdxl": SDXL, "playground": PLAYGROUND, "sd": SD, "sdxl-refiner": SDXL_REFINER}


def family(name: Family) -> FamilySpec:
    """The family of a catalogue entry."""
    return _FAMILIES[name]
