"""Commands on several jobs: each job once, and what became of each is shown, whatever became of the others."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from darkroom.cli.errors import report
from darkroom.cli.screen import Screen, pairs
from darkroom.tasks import DarkroomError, QueueBroken, QueueError


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one thing: for people, for programs, and the exit code."""

    words: str
    data: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0


def one_by_one(
    screen: Screen,
    job_ids: Iterable[str],
    act: Callable[[str], Done],
    *,
    failed: Mapping[str, Any],
    more: Mapping[str, Done] | None = None,
) -> int:
    """Acts on each job, then shows what became of them, and of `more`; the exit code is of the first that went wrong.

    `failed`: the data, besides the error, of a job that an error kept from it. Raises QueueError where all jobs would
    fare alike, and shows what was done until then all the same.
    """
    done: dict[str, Done] = {}
    more = more or {}
    try:
        for job_id in dict.fromkeys(job_ids):
            done[job_id] = _outcome(job_id, act, failed)
    finally:
        if done or more:
            document = {"results": [{"id": job_id, **one.data} for job_id, one in done.items()]}
            for one in more.values():
                document |= one.data
            screen.result(document, pairs((name, one.words) for name, one in (done | dict(more)).items()))
    return next((one.exit_code for one in done.values() if one.exit_code), 0)


def _outcome(job_id: str, act: Callable[[str], Done], failed: Mapping[str, Any]) -> Done:
    """What stood in the way of this job alone is its outcome; a server that is away concerns them all."""
    try:
        return act(job_id)
    except DarkroomError as error:
        if isinstance(error, QueueError) and not isinstance(error, QueueBroken):  # broken: its record, as a rule
            raise
        told = report(error)
        return Done(str(error), {**failed, **({"error": told.as_dict()} if told else {})}, error.exit_code)
