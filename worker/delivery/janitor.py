"""The janitor looks after jobs that nobody else does: their lease is over, or the knocks of their lane were lost.

A duty of every worker, done by one at a time under a lock in Redis. Beside it records are reconciled, slice by slice.
"""

import time
from collections import Counter
from collections.abc import Mapping

import structlog

from darkroom.tasks.batches import operations as batches
from darkroom.tasks.claims import overdue, requeue
from darkroom.tasks.errors import QueueBroken, QueueError
from darkroom.tasks.reconcile import REFUSED, SWEPT, UNREADABLE, walk_on
from darkroom.tasks.redis_io import BlockingIO, Operation, script
from darkroom.tasks.settings import TaskSettings
from darkroom.worker.delivery.duty import Duty
from darkroom.worker.delivery.leftovers import Sweep

ROUND_SECONDS = 2.0
MOST = 200  # jobs a round
PIECES = 20  # of what is to be done for batches, in a round
WALK_SECONDS = 0.1  # of a round, for the reconciler: some dozen slices
GRACE_SECONDS = 5.0  # after Redis was away, so that workers renew what they hold before it is given to others
ENDS = frozenset({"canceled", "expired", "failed"})  # outcomes


def sweep(worker: str, rules: TaskSettings) -> Operation[dict[str, str] | None]:
    """One round: what was done, by job id; None where somebody else has the duty."""
    if not (yield script("duty", worker, round(ROUND_SECONDS * 900))):
        return None
    done = {}
    for found in (yield from overdue(MOST)):
        try:
            done[found.job_id] = yield from requeue(found, rules)
        except QueueBroken as error:  # it must not keep the others from being looked after
            done[found.job_id] = f"refused: {error.message}"
    return done


class Janitor(Duty):
    """Does the rounds on a thread of its own, so that a slow round delays no lease."""

    def __init__(
        self, io: BlockingIO, worker: str, rules: TaskSettings, ended: Sweep, repairs: Counter[str] | None = None
    ) -> None:
        """`ended` is told of each job that ended here: its last worker may have died with objects stored.

        `repairs` counts what the reconciler mended, by its name.
        """
        super().__init__("janitor", ROUND_SECONDS)
        self._io, self._worker, self._rules, self._ended = io, worker, rules, ended
        self._repairs = Counter[str]() if repairs is None else repairs
        self._begins = 0.0
        self._refused: set[str] = set()  # said already
        self._log = structlog.get_logger()

    def round(self) -> None:
        """One round; what goes wrong is said, and the next comes."""
        if time.monotonic() < self._begins:
            return
        try:
            done = self._io.run(sweep(self._worker, self._rules))
            if done is not None:
                self._look_after(done)
                self._io.run(batches.work(self._rules.record_ttl, PIECES))
                self._reconcile()
        except QueueError as error:
            self._log.warning("janitor.round_failed", code=error.code)
            self._begins = time.monotonic() + GRACE_SECONDS
        except Exception:  # noqa: BLE001 - the next round must come
            self._log.exception("janitor.round_failed")

    def _look_after(self, done: Mapping[str, str]) -> None:
        for job_id, what in done.items():
            if what == UNREADABLE:
                self._log.warning("record.unreadable", job_id=job_id)
            elif what.startswith("refused"):
                self._say_refused(job_id, what)
            elif what != "kept":
                self._log.info("janitor.done", job_id=job_id, outcome=what)
            if what in ENDS:
                self._ended(job_id)

    def _reconcile(self) -> None:
        for repair in self._io.run(walk_on(self._rules.record_ttl, WALK_SECONDS)):
            self._repairs[repair.what] += 1
            if repair.what == UNREADABLE:
                self._log.warning("record.unreadable", job_id=repair.job_id)
            elif repair.what == REFUSED:
                self._say_refused(repair.job_id, repair.what)
            elif repair.what != SWEPT:
                self._log.warning("record.repaired", job_id=repair.job_id, repair=repair.what)

    def _say_refused(self, job_id: str, what: str) -> None:
        if job_id not in self._refused and len(self._refused) < MOST:
            self._refused.add(job_id)
            self._log.warning("janitor.refused", job_id=job_id, outcome=what)
