"""What a further model of a job must be able to do: one that goes on with what the job's own model left."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from darkroom.tasks.catalogue import SCHEDULERS, Catalogue, Family, ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.requests.base import Rule
from darkroom.tasks.sizes import area_faults, side_faults
from darkroom.tasks.steps import step_faults

#: Families whose latents are of one space.
_SPACES: tuple[tuple[Family, ...], ...] = (("sdxl", "sdxl-refiner"),)


@dataclass(frozen=True, slots=True)
class Further:
    """A model that the field names, beside the job's own."""

    field: str
    name: str
    own: ModelOffer
    catalogue: Catalogue

    def rules(
        self, size: Callable[[], tuple[int, int]], scheduler: Callable[[], str], steps: Callable[[], int]
    ) -> Iterator[Rule]:
        """What keeps it from going on at this size (pixels; 0 where nobody knows), each read where it is needed."""
        other = self.catalogue.get(self.name)
        if other is None or not _one_space(self.own.family, other.family):
            yield self._space_rule(other)
            return
        yield self._model_rule(other)
        yield self._scheduler_rule(other, scheduler)
        yield self._size_rule(other, size)
        yield self._steps_rule(other, steps, scheduler)

    def _space_rule(self, other: ModelOffer | None) -> Rule:
        if other is None:
            known = ", ".join(sorted(self.catalogue))
            yield Fault(self.field, "unknown_model", f"{self.name!r} is not in the catalogue; there are: {known}")
        else:
            reason = f"{other.name} is of the family {other.family}, and cannot go on with latents of {self.own.family}"
            yield Fault(self.field, "not_supported", reason)

    def _model_rule(self, other: ModelOffer) -> Rule:
        if other.name == self.own.name:
            yield Fault(self.field, "same_model", "is the job's own model: leave it out")
        if "img2img" not in other.kinds:
            yield Fault(self.field, "kind_not_supported", other.does)

    def _scheduler_rule(self, other: ModelOffer, scheduler: Callable[[], str]) -> Rule:
        if (name := scheduler()) not in other.schedulers:
            reason = f"{SCHEDULERS[name][0]} does not fit {other.name}; there are: {', '.join(other.schedulers)}"
            yield Fault(self.field, "scheduler_not_supported", reason)

    def _size_rule(self, other: ModelOffer, size: Callable[[], tuple[int, int]]) -> Rule:
        width, height = size()
        if not (width and height):
            return
        for side, pixels in (("width", width), ("height", height)):
            for fault in side_faults(side, pixels, other):
                yield Fault(self.field, fault.code, f"{other.name}: the {side} {fault.message}")
        for fault in area_faults(width, height, other):
            yield Fault(self.field, fault.code, fault.message)

    def _steps_rule(self, other: ModelOffer, steps: Callable[[], int], scheduler: Callable[[], str]) -> Rule:
        yield from step_faults(self.field, steps(), scheduler(), other)


def _one_space(one: Family, other: Family) -> bool:
    return one == other or any({one, other} <= set(space) for space in _SPACES)
