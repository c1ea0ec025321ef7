"""`darkroom save`, `darkroom sample`: what is wished of trainings while they run."""

from collections.abc import Callable

from darkroom.cli.options import AsJson, JobIds, OfTenant
from darkroom.cli.screen import Screen
from darkroom.cli.several import Done, one_by_one
from darkroom.tasks import Darkroom, JobNotFound

_WORDS = {
    "requested": "{verb}s at its next step",
    "not_begun": "has not begun: there is nothing to {verb}",
    "cancellation_requested": "is being canceled, and keeps a checkpoint",
    "already_finished": "has finished",
    "not_found": "not found",
}


def save(job_ids: JobIds, *, tenant: OfTenant = None, as_json: AsJson = False) -> int:
    """Have trainings keep what they have learned at their next step, as a LoRA's file and a checkpoint, and go on."""
    with Darkroom() as client:
        return _wished("save", lambda job_id: client.save_now(job_id, tenant=tenant), job_ids, as_json=as_json)


def sample(job_ids: JobIds, *, tenant: OfTenant = None, as_json: AsJson = False) -> int:
    """Have trainings make a round of their samples at their next step, with the LoRA as it is, and go on."""
    with Darkroom() as client:
        return _wished("sample", lambda job_id: client.sample_now(job_id, tenant=tenant), job_ids, as_json=as_json)


def _wished(verb: str, wish: Callable[[str], str], job_ids: list[str], *, as_json: bool) -> int:
    def told(job_id: str) -> Done:
        outcome = wish(job_id)
        words = _WORDS[outcome].format(verb=verb)
        return Done(words, {"outcome": outcome}, 0 if outcome == "requested" else JobNotFound.exit_code)

    return one_by_one(Screen(as_json=as_json), job_ids, told, failed={"outcome": None})
