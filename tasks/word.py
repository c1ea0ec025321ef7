"""Word that somebody watches a job: its worker tells of the steps of such jobs alone.

A key of the job that expires; whoever watches sets it again and again. The renewal of a worker's leases, each second,
brings back which of its jobs have one (`scripts/renew.lua`).
"""

from collections.abc import Iterable

from darkroom.tasks.redis_io import Call, Key, Operation, command, script

WORD_SECONDS = 10  # for which one word holds
AT_ONCE = 256
AGAIN_SECONDS = 4.0  # after which who still watches leaves it anew


def word(job_id: str) -> Call:
    """Says that somebody watches the job, for the next ten seconds."""
    return command("SET", Key(f"watched:{job_id}"), 1, "EX", WORD_SECONDS, alone=True)


def leave_word(job_ids: Iterable[str]) -> Operation[None]:
    """The same of many jobs. One that Redis refuses keeps nobody from watching: it goes without steps."""
    if ids := list(job_ids):  # in one call each of some: thousands of commands would hold up who reads events
        yield [script("word", WORD_SECONDS, *ids[begin : begin + AT_ONCE]) for begin in range(0, len(ids), AT_ONCE)]


def is_watched(job_id: str) -> Operation[bool]:
    """Whether somebody has left word."""
    return bool((yield command("EXISTS", Key(f"watched:{job_id}"))))
