"""Other programs that want the cores: how OpenMP's threads wait for each other beside these, and without them.

The threads of a team wait for each other in a loop, which is the quickest way where the cores are theirs alone. Where
they are not, a thread loops on a core that the one it waits for could be at work on: two workers on two cores took
up to thirty times as long as one.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog
import torch

from darkroom.worker.batching.threads import cores, set_threads

LOOK_SECONDS = 0.5  # of the thread's time, computing or waiting for a core, that a look is at
EVERY_SECONDS = 0.25  # Linux is asked at most, which takes a tenth of a millisecond
SHARED, ALONE = 0.15, 0.05  # of that time waited for a core; between the two all stays as it is

MOST_IDLE = 16  # threads; those of a team that leaves so many cores to others are not in anybody's way

_PORTION = 32768  # numbers; PyTorch divides an operation between threads by so many (at::internal::GRAIN_SIZE)
_NEVER = (0.0, 0.0)


class Neighbours:
    """Looks whether there are any; as long as there are, the team's threads sleep instead of looping.

    For the thread whose team it is. Nothing is done about a team of one thread, or of few beside many cores, nor where
    the system does not tell of waiting.
    """

    def __init__(self, threads: int, waited: Callable[[], tuple[float, float]] | None = None) -> None:
        """`threads` of the team. `waited` tells the seconds that the calling thread computed and waited for a core."""
        idlers = cores() - threads + 1  # with so many there are more threads than cores
        self._idlers = idlers if threads > 1 and 0 < idlers <= MOST_IDLE else 0
        self._waited = waited or seconds_waited
        self._before, self._looked = _NEVER, time.monotonic()
        self._idle: _IdleTeam | None = None

    @property
    def here(self) -> bool:
        """Whether others want the cores, as far as is known."""
        return self._idle is not None

    def look(self) -> None:
        """To be called after each model call; looks at the time since the last look, if that is enough to tell."""
        if not self._idlers or time.monotonic() - self._looked < EVERY_SECONDS:
            return
        self._looked = time.monotonic()
        computed, waited = now = self._waited()
        own, lost = computed - self._before[0], waited - self._before[1]
        if own + lost < LOOK_SECONDS:
            return
        self._before, share = now, lost / (own + lost)
        if not self._idle and share > SHARED:
            with suppress(RuntimeError):  # this process may have no more threads: then all stays as it is
                self._idle = _IdleTeam(self._idlers)
                structlog.get_logger().info("batch.cores_shared", waited_share=round(share, 2))
        elif self._idle and share < ALONE:
            self.forget()
            structlog.get_logger().info("batch.cores_free", waited_share=round(share, 2))

    def forget(self) -> None:
        """As if there were none. May be repeated."""
        if self._idle:
            self._idle.end()
            self._idle = None


class _IdleTeam:
    """OpenMP threads that do nothing: with them there are more than cores.

    As long as that is so, GNU's OpenMP lets no thread loop for more than a moment (see GOMP_SPINCOUNT in its manual).
    """

    def __init__(self, threads: int) -> None:
        """So many besides the one that leads the team: such do not count."""
        ready, self._over = threading.Event(), threading.Event()
        arguments = (1 + threads, ready)
        self._thread = threading.Thread(target=self._be, args=arguments, name="darkroom-idle", daemon=True)
        self._thread.start()
        ready.wait()

    def end(self) -> None:
        """Blocks until the threads are gone."""
        self._over.set()
        self._thread.join()

    def _be(self, count: int, ready: threading.Event) -> None:
        try:
            set_threads(count)
            torch.zeros(count * _PORTION).add_(1)  # the first operation that is divided makes the team
            set_threads(1)  # what was set last is what new threads begin with
        finally:
            ready.set()
        self._over.wait()


def seconds_waited() -> tuple[float, float]:
    """How long the calling thread has computed, and how long it has waited for a core; zeros where nobody tells."""
    try:
        computed, waited, _ = Path("/proc/thread-self/schedstat").read_text().split()
    except (OSError, ValueError):
        return _NEVER
    return int(computed) / 1e9, int(waited) / 1e9
