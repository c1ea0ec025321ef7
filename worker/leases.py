"""The leases of one worker: a thread renews them all and hears of cancels, once a second, in one script.

The thread shares no lock with the model. A job asks its `Attempt` at every step whether to go on, which reads memory
only; the record's scripts have the last word whenever something is written.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog

from darkroom.tasks.claims import Claim, Hold, renew
from darkroom.tasks.errors import QueueError
from darkroom.tasks.redis_io import BlockingIO, Operation
from darkroom.worker.duty import Duty

T = TypeVar("T")
BEAT_SECONDS = 1.0
RETRY_SECONDS = 0.5


class Stopped(Exception):
    """Ends an attempt between two steps."""


class Canceled(Stopped):
    """The job's owner wants no more of it."""


class LeaseLost(Stopped):
    """The job belongs to another worker now, or to nobody: nothing more may be written."""


class Attempt:
    """One claim of a job while this worker runs it."""

    def __init__(self, claim: Claim, renew_now: Callable[[], None], lease_seconds: float) -> None:
        self.claim = claim
        self._renew_now = renew_now
        self._lease_seconds = lease_seconds
        self._renewed_at = time.monotonic()
        self._asked_at = 0.0
        self._hold = Hold.HELD

    def heard(self, hold: Hold) -> None:
        """What Redis said of the claim. Neither a loss nor a cancel is ever taken back."""
        if hold is Hold.LOST or self._hold is Hold.HELD:
            self._hold = hold
        self._renewed_at = time.monotonic()

    def check(self) -> None:
        """Raises Canceled or LeaseLost where the attempt must end. Asks Redis only after a silence of a whole lease:

        then the process was frozen, or Redis was away, and another worker may have the job.
        """
        now = time.monotonic()
        if now - self._renewed_at > self._lease_seconds and now - self._asked_at > BEAT_SECONDS:
            self._renew_now()
            self._asked_at = time.monotonic()  # a Redis that is away must not be waited for at every step
        if self._hold is Hold.LOST:
            raise LeaseLost(self.claim.job_id)
        if self._hold is Hold.CANCEL:
            raise Canceled(self.claim.job_id)


class LeaseKeeper(Duty):
    """Holds the attempts that run now, and renews their leases until closed."""

    def __init__(self, io: BlockingIO, lease_seconds: float, beat: Callable[[], None] = lambda: None) -> None:
        """`beat` is called once a beat too: the worker's own sign of life."""
        super().__init__("leases", BEAT_SECONDS)
        self._io = io
        self._lease_seconds = lease_seconds
        self._beat = beat
        self._attempts: dict[str, Attempt] = {}
        self._lock = threading.Lock()
        self._log = structlog.get_logger()

    def persist(self, write: Callable[[], Operation[T]]) -> T:
        """Runs an operation that a job cannot go on without; a Redis that is away is waited for a lease long.

        Raises LeaseLost after that: whoever holds the job then runs it again.
        """
        deadline = time.monotonic() + self._lease_seconds
        while True:
            try:
                return self._io.run(write())
            except QueueError as error:
                if not error.retryable or time.monotonic() > deadline:
                    raise LeaseLost(f"nothing can be recorded: {error}") from error
                self._log.warning("job.not_recorded_yet", code=error.code)
                self._closing.wait(RETRY_SECONDS)

    @contextmanager
    def hold(self, claim: Claim) -> Iterator[Attempt]:
        """Keeps the claim's lease for as long as the block runs."""
        attempt = Attempt(claim, self.renew, self._lease_seconds)
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
        try:
            holds = self._io.run(renew([attempt.claim for attempt in attempts], self._lease_seconds))
        except QueueError as error:
            self._log.warning("leases.not_renewed", code=error.code, jobs=len(attempts))
            return
        for attempt, hold in zip(attempts, holds, strict=True):
            attempt.heard(hold)

    def round(self) -> None:
        """One beat; what goes wrong is said, and the next comes. Leases still held at the end run out by themselves."""
        try:
            self.renew()
            self._beat()
        except QueueError as error:
            self._log.warning("worker.not_heard", code=error.code)
        except Exception:  # noqa: BLE001 - without this thread every lease would run out
            self._log.exception("worker.beat_failed")
