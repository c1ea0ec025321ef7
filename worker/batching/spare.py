"""Work that may wait, such as a step of a training: when nothing else is to be done, and else a share of the time."""

SHARE = 0.1


class Spare:
    """Keeps the account; seconds. Not thread-safe.

    While such work waits, what is done in its place earns it credit, so that it gets its share in the long run; it is
    due once the credit pays for half of what its last piece took, so that it is as often ahead of its share as behind.
    What runs while nothing else is there costs nothing.
    """

    def __init__(self, share: float = SHARE) -> None:
        """`share` from 0 to below 1. Raises ValueError."""
        if not 0 <= share < 1:
            raise ValueError(f"a share of {share}")
        self._rate = share / (1 - share)
        self._credit = 0.0
        self._last = 0.0

    @property
    def due(self) -> bool:
        """Whether its turn has come though others wait."""
        return self._rate > 0 and self._credit > 0 and self._credit >= self._last / 2

    @property
    def due_in(self) -> float:
        """How long others have to have had the time until it is; without end where it has no share."""
        return max(0.0, self._last / 2 - self._credit) / self._rate if self._rate else float("inf")

    def waited(self, seconds: float) -> None:
        """Others had so much time while it waited."""
        self._credit += self._rate * seconds

    def ran(self, seconds: float, *, beside: bool) -> None:
        """It had so much; `beside`: while others waited for it."""
        self._last = seconds
        self._credit = self._credit - seconds if beside else 0.0
