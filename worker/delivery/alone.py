"""A job that took its workers with it has one last run, alone: this worker drains for it, and takes nothing meanwhile.

Only such a job waits for this; whatever else was in the worker that died runs on beside others as always.
"""

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from darkroom.tasks.claims import Claim, Refusal, claim, knock_again
from darkroom.tasks.errors import QueueError
from darkroom.tasks.places import Has, Place
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.settings import TaskSettings
from darkroom.tasks.suspects import ask_alone, leave_alone
from darkroom.worker.delivery.drain import Drain

LOOK_SECONDS = 3.0
PATIENCE_SECONDS = 60.0  # until the worker is empty; past that it goes on, and another may try
REST_SECONDS = 600.0  # before a worker that did not get empty offers itself again


class Alone:
    """Lets jobs in, all but while one is to be alone. Safe to share between threads."""

    def __init__(
        self,
        io: BlockingIO,
        worker: str,
        places: Callable[[], Sequence[Place]],
        has: Has,
        drain: Drain,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._io, self._worker, self._places, self._has, self._drain = io, worker, places, has, drain
        self._patience = patience
        self._inside, self._asked = 0, False
        self._changed = threading.Condition()
        self._next = 0.0
        self._thread: threading.Thread | None = None
        self._log = structlog.get_logger()

    @property
    def lets_in(self) -> bool:
        """Whether a knock may be read now."""
        return not self._asked

    def door(self, run: Callable[[str], None]) -> Callable[[str], None]:
        """`run` for a knock, which is put back where somebody is to be alone."""

        def through(named: str) -> None:
            with self._changed:
                may = not self._asked
                self._inside += may
            if not may:
                self._put_back()
                return
            try:
                run(named)
            finally:
                with self._changed:
                    self._inside -= 1
                    self._changed.notify_all()

        return through

    def look(self, run: Callable[[Claim], None], lease_seconds: float, rules: TaskSettings) -> None:
        """Once a beat: whether a job needs a last run. Raises QueueError."""
        now = time.monotonic()
        if self._asked or now < self._next or self._drain.begun:
            return
        self._next = now + LOOK_SECONDS
        job_id = self._io.run(ask_alone(self._worker, 2 * self._patience, self._places()))
        if job_id:
            with self._changed:
                self._asked = True
            arguments = (job_id, run, lease_seconds, rules)
            self._thread = threading.Thread(target=self._last_run, args=arguments, name="darkroom-alone", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """A last run that goes on ends as any job does when its worker stops."""
        with self._changed:
            self._changed.notify_all()
        if self._thread:
            self._thread.join()

    def _last_run(self, job_id: str, run: Callable[[Claim], None], lease_seconds: float, rules: TaskSettings) -> None:
        self._log.info("job.to_run_alone", job_id=job_id)
        try:
            if self._is_empty():
                found = self._io.run(claim(job_id, self._worker, lease_seconds, rules, self._has))
                if isinstance(found, Refusal):
                    self._log.info("job.not_run_alone", job_id=job_id, reason=found.reason)
                else:
                    run(found)
            else:
                self._next = time.monotonic() + REST_SECONDS
                self._log.warning("job.not_run_alone", job_id=job_id, reason="not empty")
            self._io.run(leave_alone(self._worker, job_id))
        except QueueError as error:  # the job waits on, or its lease runs out
            self._log.warning("job.not_run_alone", job_id=job_id, reason=error.code)
        except Exception:  # noqa: BLE001 - the door must open again
            self._log.exception("job.not_run_alone", job_id=job_id)
        finally:
            self._asked = False

    def _is_empty(self) -> bool:
        until = time.monotonic() + self._patience
        with self._changed:
            while self._inside and not self._drain.begun and (left := until - time.monotonic()) > 0:
                self._changed.wait(min(left, 1.0))
            return not self._inside and not self._drain.begun

    def _put_back(self) -> None:
        try:
            self._io.run(knock_again(self._places()))
        except QueueError as error:  # the janitor will knock again
            self._log.info("job.not_taken", reason=error.code)
