"""Models and cuts that have no part in an image: told of where they are, and not claimed in its file."""

from typing import Any

import pytest
import torch
from safetensors.torch import load

from darkroom.tasks import InvalidRequest
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.placements import Ticket
from tests.unit.worker.conftest import ignore
from tests.unit.worker.kinds.conftest import Duo
from tests.unit.worker.kinds.test_handover import by, left, wish

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize("scheduler", ["euler", "ddim", "lcm"])
@pytest.mark.parametrize("start", [0.001, 0.25, 0.5, 0.749, 0.75, 0.751, 0.999])
def test_a_model_that_makes_no_step_is_told_of(duo: Duo, scheduler: str, start: float) -> None:
    """Its warning and its silence agree with the calls, and the picture's file names it only where it had some."""
    base = duo["tiny-sdxl"]
    request = wish(duo, num_inference_steps=4, scheduler=scheduler, refiner=by("tiny-sdxl-refiner", start))
    prepared = base.prepare(request, duo)
    calls: list[object] = []
    ticket = Ticket(solo=True, on_call=lambda call: calls.append(call.module))
    base.generate(prepared, 1, {}, ignore, ticket)
    ran = {name for name in duo if duo[name].denoiser in calls and name != "twin"}
    idle = {"tiny-sdxl": "no_steps", "tiny-sdxl-refiner": "refiner_ignored"}
    assert set(prepared.warnings) == {warning for name, warning in idle.items() if name not in ran}
    assert ("Refiner switch at" in prepared.kind.facts(prepared)) == ("tiny-sdxl-refiner" in ran)


@pytest.mark.parametrize("scheduler", ["euler", "ddim", "lcm"])
@pytest.mark.parametrize("end", [0.001, 0.5, 0.75, 0.751, 0.999])
def test_an_end_behind_the_last_step_is_told_of(duo: Duo, scheduler: str, end: float) -> None:
    base, asked = duo["tiny-sdxl"], {"num_inference_steps": 4, "scheduler": scheduler}
    prepared = base.prepare(wish(duo, denoising_end=end, output=["latents"], **asked), duo)
    (file,) = base.generate(prepared, 1, {}, ignore, Ticket(solo=True)).files
    whole = load(left(duo, **asked))["latents"]
    ignored = torch.equal(load(file.data)["latents"], whole)
    assert ("denoising_end_ignored" in prepared.warnings) == ignored


def test_latents_that_nothing_is_made_of_are_told_of(duo: Duo) -> None:
    asked = wish(duo, image="job-1/latents-0-0123456789abcdef.safetensors", denoising_start=0.999)
    assert duo["tiny-sdxl"].prepare(asked, duo).warnings == ["no_steps"]
    begun = wish(duo, image="job-1/latents-0-0123456789abcdef.safetensors", denoising_start=0.5)
    assert duo["tiny-sdxl"].prepare(begun, duo).warnings == []


@pytest.mark.parametrize(("steps", "strength"), [(3, 1 / 3), (4, 0.25), (4, 0.2499), (49, 1 / 49), (10, 0.1), (1, 1)])
def test_what_is_refused_at_submit_is_what_makes_no_step(duo: Duo, steps: int, strength: float) -> None:
    hires = {"strength": float(strength), "model": "tiny-sdxl-refiner", "steps": steps}
    more: dict[str, Any] = {} if strength < 1 else {"model": "twin"}
    calls: list[object] = []
    kept = resolve({"prompt": "a", "model": "tiny-sdxl", "width": 32, "height": 32, "num_inference_steps": 1,
                    "hires": {**hires, **more}, "seed": 1},
                   {name: one.entry for name, one in duo.items()}, lambda: None, kept=True).filled  # fmt: skip
    base = duo["tiny-sdxl"]
    prepared = base.prepare(kept, duo)
    ticket = Ticket(solo=True, on_call=lambda call: calls.append(call.module))
    base.generate(prepared, 1, {}, ignore, ticket)
    second = len(calls) > 1
    assert ("Hires checkpoint" in prepared.kind.facts(prepared)) == second
    assert ("Hires steps" in prepared.kind.facts(prepared)) == second
    if second:
        wish(duo, num_inference_steps=1, hires={**hires, **more})
        return
    with pytest.raises(InvalidRequest, match=r"hires.model: of \d+ steps"):
        wish(duo, num_inference_steps=1, hires={**hires, **more})
