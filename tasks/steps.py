"""Numbers of denoising steps: what a model allows, and what a scheduler can do."""

from collections.abc import Iterator

from darkroom.tasks.catalogue import MOST_STEPS, SCHEDULERS, ModelOffer
from darkroom.tasks.errors import Fault


def steps_left(steps: int, strength: float) -> int:
    """How many of the steps a strength leaves, as diffusers' pipelines count them (`get_timesteps`)."""
    return min(int(steps * strength), steps)


def step_faults(field: str, steps: int, scheduler: str, offer: ModelOffer) -> Iterator[Fault]:
    """What keeps the model, or the scheduler of this id, from so many steps."""
    limit = offer.limits.max_steps
    if steps > limit:
        yield Fault(field, "too_large", f"{offer.name} allows at most {limit}")
    elif steps > (most := MOST_STEPS.get(scheduler, limit)):
        yield Fault(field, "too_large", f"{SCHEDULERS[scheduler][0]} does at most {most}, not {steps}")
