"""What a further model of a job must be able to do: one that goes on with what the job's own model left."""

from collections.abc import Iterator

from darkroom.tasks.catalogue import SCHEDULERS, Catalogue, Family, ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.sizes import size_faults
from darkroom.tasks.steps import step_faults

#: Families whose latents are of one space.
_SPACES: tuple[tuple[Family, ...], ...] = (("sdxl", "sdxl-refiner"),)


def further_model_faults(
    field: str, name: str, own: ModelOffer, catalogue: Catalogue, size: tuple[int, int], scheduler: str, steps: int
) -> Iterator[Fault]:
    """What keeps the model of this name from going on at this size (pixels; 0 where nobody knows)."""
    other = catalogue.get(name)
    if other is None:
        yield Fault(
            field, "unknown_model", f"{name!r} is not in the catalogue; there are: {', '.join(sorted(catalogue))}"
        )
        return
    if other.name == own.name:
        yield Fault(field, "same_model", "is the job's own model: leave it out")
    if not _one_space(own.family, other.family):
        reason = f"{other.name} is of the family {other.family}, and cannot go on with latents of {own.family}"
        yield Fault(field, "not_supported", reason)
        return
    if "img2img" not in other.kinds:
        yield Fault(field, "kind_not_supported", other.does)
    if scheduler not in other.schedulers:
        reason = f"{SCHEDULERS[scheduler][0]} does not fit {other.name}; there are: {', '.join(other.schedulers)}"
        yield Fault(field, "scheduler_not_supported", reason)
    beyond = size_faults(*size, other) if all(size) else ()
    for fault in (*beyond, *step_faults(field, steps, scheduler, other)):
        yield Fault(field, fault.code, f"{other.name}: {fault.message}")


def _one_space(one: Family, other: Family) -> bool:
    return one == other or any({one, other} <= set(space) for space in _SPACES)
