"""How fast a training is, by the clock on the wall: whoever waits for it waits for all that comes between its steps."""

import time
from collections import deque
from collections.abc import Callable

WINDOW = 100  # steps: some that keep a checkpoint are among them, at the intervals that are usual


class Pace:
    """Of the newest steps of this attempt: what an earlier one took says nothing of this worker."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._clock = clock
        self._ends = deque[float](maxlen=WINDOW + 1)

    def add(self, left: int) -> dict[str, float]:
        """A step has ended, and so many are left: `steps_per_second` and `seconds_left`; nothing after the first step.

        What that one takes is not told from what comes but once, such as memory that is set aside.
        """
        self._ends.append(self._clock())
        took = self._ends[-1] - self._ends[0]
        if took <= 0:
            return {}
        steps = len(self._ends) - 1
        return {"steps_per_second": steps / took, "seconds_left": left * took / steps}
