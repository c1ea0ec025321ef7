"""The leases of one worker: a thread renews them all, tells how far each job is, and hears of cancels and of who is
watched, once a second, in one script.

The thread shares no lock with the model. A job asks its `Attempt` at every step whether to go on, which reads memory
only; the record's scripts have the last word whenever something is written.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import structlog

from darkroom.tasks.claims import Claim, Hold, hand_back, renew
from darkroom.tasks.errors import QueueAuthFailed, QueueError
from darkroom.tasks.redis_io import BlockingIO, Operation
from darkroom.tasks.settings import TaskSettings
from darkroom.worker.delivery.attempt import Attempt, LeaseLost
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.delivery.duty import Duty

T = TypeVar("T")
BEAT_SECONDS = 1.0
RETRY_SECONDS = 0.5


class LeaseKeeper(Duty):
    """Holds the attempts that run now, and renews their leases until closed."""

    def __init__(
        self,
        io: BlockingIO,
        lease_seconds: float,
        rules: TaskSettings,
        drain: Drain | None = None,
        duties: Sequence[Callable[[], None]] = (),
    ) -> None:
        """`duties` are done once a beat too: the worker's own sign of life, and whatever else must not wait."""
        super().__init__("leases", BEAT_SECONDS)
        self._io = io
        self._lease_seconds = lease_seconds
        self._rules = rules
        self._drain = drain or Drain(0)
        self._duties = duties
        self._attempts: dict[str, Attempt] = {}
        self._lock = threading.Lock()
        self._log = structlog.get_logger()

    def persist(self, write: Callable[[], Operation[T]]) -> T:
        """Runs an operation that a job cannot go on without. A Redis that is away is waited for: nobody else can take
        the job from it meanwhile, and when it is back the claim's token proves whose job it is.

        Raises LeaseLost where Redis refuses for good, or where this worker must be gone before.
        """
        while True:
            try:
                return self._io.run(write())
            except QueueError as error:
                passes = error.retryable or isinstance(error, QueueAuthFailed)  # a password that is put right again
                if not passes or self._drain.over_for() or self._closing.is_set():
                    raise LeaseLost(f"nothing can be recorded: {error}") from error
                self._log.warning("job.not_recorded_yet", code=error.code)
                self._closing.wait(RETRY_SECONDS)

    @contextmanager
    def hold(self, claim: Claim) -> Iterator[Attempt]:
        """Keeps the claim's lease for as long as the block runs."""
        attempt = Attempt(claim, self.renew, self._lease_seconds, self._drain)
        with self._lock:
            self._attempts[claim.token] = attempt
        try:
            yield attempt
        finally:
            with self._lock:
                del self._attempts[claim.token]

    def renew(self) -> None:
        """Renews all leases now. Where Redis is away the attempts go on: what they write is fenced by the record."""
        with self._lock:
            attempts = list(self._attempts.values())
        if not attempts:
            return
        untold = {a.claim.token: json.dumps(a.step) for a in attempts if a.step and not a.watched}
        try:
            holds = self._io.run(renew([attempt.claim for attempt in attempts], self._lease_seconds, untold))
        except QueueError as error:
            self._log.warning("leases.not_renewed", code=error.code, jobs=len(attempts))
            return
        for attempt, hold in zip(attempts, holds, strict=True):
            attempt.renewed(hold)

    def round(self) -> None:
        """One beat; what goes wrong is said, and the next comes. Leases still held at the end run out by themselves."""
        for duty in (self.renew, self._hand_back_late, *self._duties):
            try:
                duty()
            except QueueError as error:
                self._log.warning("worker.not_heard", code=error.code)
            except Exception:  # noqa: BLE001 - without this thread every lease would run out
                self._log.exception("worker.beat_failed")

    def _hand_back_late(self) -> None:
        """Once the time to stop is up, every job still here goes to another worker, in whatever step it is."""
        if not self._drain.over_for():
            return
        with self._lock:
            attempts = list(self._attempts.values())
        for attempt in attempts:
            if not attempt.lost:
                self._io.run(hand_back(attempt.claim, self._rules))
                self._log.info("job.handed_back", job_id=attempt.claim.job_id)
                attempt.heard(Hold.LOST)
