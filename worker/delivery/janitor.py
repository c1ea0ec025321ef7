"""The janitor knocks again for jobs that nobody looks after: their lease is over, or their message was lost.

A duty of every worker, done by one at a time under a lock in Redis.
"""

import time

import structlog

from darkroom.tasks.claims import overdue, requeue
from darkroom.tasks.errors import QueueBroken, QueueError
from darkroom.tasks.redis_io import BlockingIO, Operation, script
from darkroom.tasks.settings import TaskSettings
from darkroom.worker.delivery.duty import Duty
from darkroom.worker.delivery.leftovers import Sweep

ROUND_SECONDS = 2.0
PATIENCE_SECONDS = 30.0  # after a later job of the lane was claimed, a message counts as lost
MOST = 200  # jobs a round
GRACE_SECONDS = 5.0  # after Redis was away, so that workers renew what they hold before it is given to others
ENDS = frozenset({"canceled", "expired", "failed"})  # outcomes


def sweep(worker: str, rules: TaskSettings, patience: float = PATIENCE_SECONDS) -> Operation[dict[str, str]]:
    """One round, if nobody else has the duty; what was done, by job id."""
    if not (yield script("duty", worker, round(ROUND_SECONDS * 900))):
        return {}
    done = {}
    # Each knock goes before all others of its lane, hence the oldest job's last.
    for found in reversed((yield from overdue(patience, MOST))):
        try:
            done[found.job_id] = yield from requeue(found, rules)
        except QueueBroken as error:  # it must not keep the others from being looked after
            done[found.job_id] = f"refused: {error.message}"
    return done


class Janitor(Duty):
    """Does the rounds on a thread of its own, so that a slow round delays no lease."""

    def __init__(self, io: BlockingIO, worker: str, rules: TaskSettings, ended: Sweep) -> None:
        """`ended` is told of each job that ended here: its last worker may have died with objects stored."""
        super().__init__("janitor", ROUND_SECONDS)
        self._io, self._worker, self._rules, self._ended = io, worker, rules, ended
        self._begins = 0.0
        self._said: dict[str, str] = {}  # what was refused in the last round
        self._log = structlog.get_logger()

    def round(self) -> None:
        """One round; what goes wrong is said, and the next comes."""
        if time.monotonic() < self._begins:
            return
        try:
            done = self._io.run(sweep(self._worker, self._rules))
        except QueueError as error:
            self._log.warning("janitor.round_failed", code=error.code)
            self._begins = time.monotonic() + GRACE_SECONDS
            return
        except Exception:  # noqa: BLE001 - the next round must come
            self._log.exception("janitor.round_failed")
            return
        for job_id, what in done.items():
            self._tell(job_id, what)
            if what in ENDS:
                self._ended(job_id)
        self._said = {job_id: what for job_id, what in done.items() if what.startswith("refused")}

    def _tell(self, job_id: str, what: str) -> None:
        if what == "unreadable":
            self._log.warning("record.unreadable", job_id=job_id)
        elif what.startswith("refused"):
            if job_id not in self._said:
                self._log.warning("janitor.refused", job_id=job_id, outcome=what)
        elif what != "kept":
            self._log.info("janitor.knocked", job_id=job_id, outcome=what)
