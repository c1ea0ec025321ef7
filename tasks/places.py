"""Where a job waits: the lane of its model, and where it needs something a lane of its own beside it.

A worker reads the lanes whose needs it has, so that a job that it lacks something for stands in nobody's way. The name
says the needs, hence no other key has to: `sdxl:bulk`, `sdxl.NEEDS.hires.NEEDS.kind.IS.inpaint:bulk`. The first release
takes the latter for a model's that it does not serve: it looks after the lane's jobs and claims none of them. No
model's name has a capital letter.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from darkroom.tasks.catalogue import ModelName
from darkroom.tasks.errors import QueueBroken
from darkroom.tasks.message import queue_name
from darkroom.tasks.needs import needs_of
from darkroom.tasks.redis_io import Key, Operation, command
from darkroom.tasks.requests import Request

_NEEDS, _IS = ".NEEDS.", ".IS."

#: What a worker has, by the model for which it has it.
Has = Mapping[ModelName, Collection[str]]


@dataclass(frozen=True, slots=True)
class Place:
    """A lane: of a model, `interactive` or `bulk`, for jobs with just these needs."""

    model: str
    lane: str
    needs: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: Request) -> "Place":
        """Where a filled request waits."""
        return cls(str(request.model), request.lane, needs_of(request))

    @classmethod
    def parse(cls, name: str) -> "Place":
        """From its name in a record or in the set of lanes."""
        whole, _, lane = name.rpartition(":")
        model, *needs = whole.split(_NEEDS)
        return cls(model, lane, tuple(need.replace(_IS, ":") for need in needs))

    def __str__(self) -> str:
        whole = _NEEDS.join([self.model, *(need.replace(":", _IS) for need in self.needs)])
        return f"{whole}:{self.lane}"

    @property
    def queue(self) -> str:
        """The Celery queue of the lane's messages."""
        return queue_name(*str(self).rsplit(":", 1))

    def open_to(self, has: Has) -> bool:
        """Whether a worker that has this can run the lane's jobs."""
        return self.model in has and set(self.needs) <= set(has[self.model])


def beside(has: Has) -> Operation[list[Place]]:
    """Lanes with needs that a worker that has this can read now; they come and go with the jobs that need something."""
    names = yield command("SMEMBERS", Key("lanes"), alone=True)
    if isinstance(names, QueueBroken):  # of another type, which `darkroom doctor` tells: the other lanes are read
        return []
    found = (Place.parse(name.decode(errors="replace")) for name in names)
    return sorted((place for place in found if place.needs and place.open_to(has)), key=str)
