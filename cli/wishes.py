"""`darkroom save`: what is wished of trainings while they run."""

from typing import Annotated

import typer

from darkroom.cli.options import AsJson, JobIds
from darkroom.cli.screen import Screen
from darkroom.cli.several import Done, one_by_one
from darkroom.tasks import Darkroom, JobNotFound

_WORDS = {
    "requested": "saves at its next step",
    "not_begun": "has not begun: there is nothing to save",
    "cancellation_requested": "is being canceled, and keeps a checkpoint",
    "already_finished": "has finished: it saves no more",
    "not_found": "not found",
}

OfTenant = Annotated[str | None, typer.Option("--tenant", help="Jobs of others are not found.")]


def save(job_ids: JobIds, *, tenant: OfTenant = None, as_json: AsJson = False) -> int:
    """Have trainings keep what they have learned at their next step, as a LoRA's file and a checkpoint, and go on."""
    with Darkroom() as client:

        def saved(job_id: str) -> Done:
            outcome = client.save_now(job_id, tenant=tenant)
            return Done(_WORDS[outcome], {"outcome": outcome}, 0 if outcome == "requested" else JobNotFound.exit_code)

        return one_by_one(Screen(as_json=as_json), job_ids, saved, failed={"outcome": None})
