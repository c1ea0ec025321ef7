"""When images that may wait stand still between two of their steps, so that urgent ones are not kept waiting.

A call in company takes longer than alone (twice on a CPU), and one of others before each of its own as long again.
Standing still costs an image nothing but its memory. Seconds; no clock.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from darkroom.worker.batching.spare import Spare

SHARE = 0.05
JOIN = 1.2  # times what their call costs without, at most, for which others may go with urgent ones
LEAST = 0.001  # until the next look; less is nothing that a clock tells apart


@dataclass(frozen=True, slots=True)
class Expected:
    """The urgent images between two calls, by the group of their last, and until when others stand still for them.

    `others`: who stand still with other calls than the denoiser's.
    """

    coming: Mapping[Hashable, int] = field(default_factory=dict)
    until: float = 0.0
    others: bool = False


NOBODY = Expected()


class Standing:
    """Keeps the account of those who stand still: they have a share of the time. Not thread-safe."""

    def __init__(self, share: float = SHARE) -> None:
        """`share` from 0 to below 1. Raises ValueError."""
        self._account = Spare(share)
        self._idle_since: float | None = None

    @property
    def due(self) -> bool:
        """Whether their turn has come though urgent images are in their steps."""
        return self._account.due

    @property
    def due_in(self) -> float:
        """Seconds of standing still until it has; without end where they have no share."""
        return max(LEAST, self._account.due_in)

    def went(self, seconds: float, *, beside: bool) -> None:
        """A call of theirs takes so long; `beside`: while urgent images are in their steps."""
        self._account.ran(seconds, beside=beside)

    def stood(self, seconds: float) -> None:
        """A call of urgent images does."""
        self._account.waited(seconds)

    def idles(self, now: float) -> None:
        """They stand still from now on, and the model with them: the urgent images step their schedulers."""
        self._idle_since = now

    def ended(self, now: float) -> None:
        """That is over, if nobody has said so yet."""
        if self._idle_since is not None:
            self._account.waited(now - self._idle_since)
        self._idle_since = None


_thread = threading.local()


@contextmanager
def asking(*, urgent: bool, check: Callable[[], None] | None = None) -> Iterator[None]:
    """What this thread asks of an engine in the context is urgent, as it is by itself, or may stand still.

    `check` is asked now and then while another call than the denoiser's waits, and may raise; none is left
    that has begun.
    """
    before = is_urgent(), check_of()
    _thread.urgent, _thread.check = urgent, check
    try:
        yield
    finally:
        _thread.urgent, _thread.check = before


def is_urgent() -> bool:
    """Of what this thread asks."""
    return getattr(_thread, "urgent", True)


def check_of() -> Callable[[], None] | None:
    """What this thread is to ask while it waits."""
    return getattr(_thread, "check", None)
