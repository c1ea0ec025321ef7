"""`darkroom cancel`: some jobs by their ids, or all that are in a state."""

import sys
from collections import Counter
from typing import Annotated

import typer

from darkroom.cli.errors import UsageFault
from darkroom.cli.jobs import note_unreadable, pages
from darkroom.cli.options import AnyJobIds, AsJson
from darkroom.cli.screen import Screen
from darkroom.cli.several import Done, one_by_one
from darkroom.tasks import Darkroom, JobNotFound, State

EXAMPLES = """Examples:

darkroom cancel ID1 ID2

darkroom cancel --all --state queued --tenant alice
"""

EXIT_NO_SUCH_JOB = JobNotFound.exit_code
_CANCELED = ("canceled", "cancellation_requested")
_LIVE = (State.QUEUED, State.RUNNING)


def cancel(
    job_ids: AnyJobIds = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All jobs that have not ended, instead of ids.")] = False,
    state: Annotated[list[State] | None, typer.Option(help="Of all: only those queued, or running.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of all: only this tenant's.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")] = False,
    as_json: AsJson = False,
) -> int:
    """Cancel jobs: a queued one at once, a running one at its next step."""
    if every == bool(job_ids):
        raise UsageFault("ids or --all, one of the two", hint="`darkroom cancel --help` has examples")
    if not every and (state or tenant):
        raise UsageFault("--state and --tenant belong to --all")
    if ended := [one for one in state or () if one not in _LIVE]:
        raise UsageFault(f"--state {ended[0]}: such jobs have ended", hint="it is queued or running")
    screen = Screen(as_json=as_json)
    with Darkroom() as client:
        if every:
            return _cancel_all(client, screen, list(state or _LIVE), tenant, ask=not yes)

        def canceled(job_id: str) -> Done:
            outcome = client.cancel(job_id)
            return Done(outcome, {"outcome": outcome}, 0 if outcome in _CANCELED else EXIT_NO_SUCH_JOB)

        return one_by_one(screen, job_ids or [], canceled, failed={"outcome": None})


def _cancel_all(client: Darkroom, screen: Screen, states: list[State], tenant: str | None, *, ask: bool) -> int:
    """Those that are there now; a job that ends meanwhile has ended, which is no fault."""
    ids: list[str] = []
    for page in pages(client, sys.maxsize, tenant=tenant, state=[str(state) for state in states]):
        note_unreadable(screen, page)
        ids += [job.id for job in page]
    if ids and ask and screen.err.is_terminal and sys.stdin.isatty():
        typer.confirm(f"Cancel {len(ids)} jobs?", abort=True, err=True)
    counts = Counter(client.cancel(job_id) for job_id in ids)
    screen.result({"jobs": len(ids), "counts": dict(counts)})
    if not screen.as_json:
        screen.say(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "no such jobs")
    return 0
