"""Pictures of few steps beside those of the model that they are made of."""

from bench.loras.flight import IN_FLIGHT, flight, in_turn, job, ratio
from bench.table import Row
from darkroom.tasks.catalogue import builtin_contents
from darkroom.worker.images.warm import warm, warm_derived
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.tuning import make_engine
from darkroom.worker.process.pinned import Pinned
from darkroom.worker.settings import WorkerSettings

BASE, FEW = "starter", "starter-4step"
MARK = 3.0


def few_steps(rounds: int, **fields: object) -> Row:
    """As many pictures at a time of either, each by its model's own steps and guidance."""
    settings, contents = WorkerSettings(device="cpu"), builtin_contents()
    placement = choose_placement(settings)
    with make_engine(placement) as engine:
        found = Pinned(contents, placement, settings, engine).generators([contents.models[BASE]])
        warm(found[BASE])
        warm_derived(found[FEW])
        jobs = {name: [job(found[name], **fields) for _ in range(IN_FLIGHT)] for name in (BASE, FEW)}
        base, few = in_turn([lambda name=name: flight(jobs[name]) for name in (BASE, FEW)], rounds)  # type: ignore[misc]
    value = ratio(base, few)
    what = f"pictures a second of {FEW}, {IN_FLIGHT} in flight, against {BASE}"
    return Row(what, f"{value:.2f}", f">= {MARK:g}", value >= MARK)
