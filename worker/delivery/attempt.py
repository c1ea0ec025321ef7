"""One claim of a job while this worker runs it: whether to go on, asked between two steps, answered from memory."""

import time
from collections.abc import Callable, Mapping

from darkroom.tasks.claims import Claim, Hold
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.failures import Control

PATIENCE_SECONDS = 1.0  # between two questions to a Redis that was silent for a whole lease


class Stopped(Control):
    """Ends an attempt between two steps."""


class Canceled(Stopped):
    """The job's owner wants no more of it."""


class Expired(Stopped):
    """The job's deadline is over."""


class Drained(Stopped):
    """This worker stops before the job would be done: another one takes it."""


class OutOfPatience(Stopped):
    """The store could not be used for longer than a job waits: it is handed back, at no cost."""


class LeaseLost(Stopped):
    """The job belongs to another worker now, or to nobody: nothing more may be written."""


_STOPS: dict[Hold, type[Stopped]] = {Hold.CANCEL: Canceled, Hold.EXPIRED: Expired, Hold.LOST: LeaseLost}


class Attempt:
    """What is known of the claim, and how far the job is."""

    def __init__(self, claim: Claim, renew_now: Callable[[], None], lease_seconds: float, drain: Drain) -> None:
        self.claim = claim
        self._renew_now = renew_now
        self._lease_seconds = lease_seconds
        self._drain = drain
        self._renewed_at = time.monotonic()
        self._asked_at = 0.0
        self._hold, self._wished = Hold.HELD, False
        self.watched = claim.watched  # somebody wants to see its steps, when that was asked last
        self.step: Mapping[str, object] | None = None  # how far it is
        self._began: float | None = None
        self._done = [0.0] * claim.request.pieces  # of each image, from 0 to 1

    def heard(self, hold: Hold) -> None:
        """What Redis said of the claim. Neither a loss nor a wish to stop is ever taken back."""
        if hold is Hold.WISH:
            self._wished = True
        elif hold is Hold.LOST or self._hold is Hold.HELD:
            self._hold = hold
        self._renewed_at = time.monotonic()

    def renewed(self, hold: Hold) -> None:
        """What the renewal of the lease has said, which knows who is watched."""
        if hold in (Hold.HELD, Hold.WATCHED):
            self.watched = hold is Hold.WATCHED
        self.heard(Hold.HELD if hold is Hold.WATCHED else hold)

    @property
    def lost(self) -> bool:
        """Whether the job is known to be no longer ours."""
        return self._hold is Hold.LOST

    def is_wished(self) -> bool:
        """Whether Redis has said since this was asked last that the job's owner wishes something of it.

        It says so again as long as the wish is not met.
        """
        wished, self._wished = self._wished, False
        return wished

    def progressed(self, image: int, done: float) -> None:
        """How much of an image's steps is done, from 0 to 1."""
        self._began = self._began or time.monotonic()
        self._done[image] = done

    def check(self) -> None:
        """Raises a Stopped where the attempt must end. Asks Redis only after a silence of a whole lease:

        then the process was frozen, or Redis was away, and another worker may have the job.
        """
        now = time.monotonic()
        if now - self._renewed_at > self._lease_seconds and now - self._asked_at > PATIENCE_SECONDS:
            self._renew_now()
            self._asked_at = time.monotonic()  # a Redis that is away must not be waited for at every step
        stop = _STOPS.get(self._hold)
        if stop:
            raise stop(self.claim.job_id)
        if self._drain.too_late_for(self._seconds_left(now)):
            raise Drained(self.claim.job_id)

    def _seconds_left(self, now: float) -> float:
        """At the pace so far; without end before the first step."""
        done = sum(self._done) / len(self._done)
        if self._began is None or done <= 0:
            return float("inf")
        return (now - self._began) * (1 - done) / done
