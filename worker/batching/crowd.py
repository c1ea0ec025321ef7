"""The images that step their schedulers between two denoiser calls: who may be waited for."""

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass

from darkroom.worker.batching.placements import Ticket

PATIENCE = 1.0  # seconds; whoever takes longer over a step (a slow Redis, a large preview) is not waited for


@dataclass(slots=True)
class _Round:
    """The callers of one model call, on their way to their next ones."""

    began: float
    out: int
    last: float | None = None


class Crowd:
    """Not thread-safe: the engine's lock is around it. Times are seconds of one clock."""

    def __init__(self, gap: Callable[[float], None]) -> None:
        """`gap` hears how long after their rows the last of a model call's callers was back."""
        self._gap = gap
        self._calling: set[Ticket] = set()  # from a call on until it is answered
        self._stepping: dict[Ticket, tuple[Hashable, _Round]] = {}

    def answered(self, who: Collection[tuple[Ticket, Hashable]], now: float) -> None:
        """These have their rows, of one model call. Those that have not left will call again, in the same group."""
        here = [(ticket, group) for ticket, group in who if ticket in self._calling]
        together = _Round(now, len(here))
        self._stepping |= {ticket: (group, together) for ticket, group in here}
        self._calling -= {ticket for ticket, _ in here}

    def called(self, ticket: Ticket, now: float) -> None:
        """The image's next call has come."""
        self._calling.add(ticket)
        self._returned(ticket, now)

    def left(self, ticket: Ticket) -> None:
        """No call of this image is expected."""
        self._calling.discard(ticket)
        self._returned(ticket, None)

    def coming(self, now: float) -> dict[Hashable, int]:
        """How many images' next call has not come yet, by the group of their last."""
        found: dict[Hashable, int] = {}
        for group, of in self._stepping.values():
            if now - of.began <= PATIENCE:
                found[group] = found.get(group, 0) + 1
        return found

    def __len__(self) -> int:
        return len(self._stepping)

    def _returned(self, ticket: Ticket, now: float | None) -> None:
        _, of = self._stepping.pop(ticket, (None, None))
        if of is None:
            return
        of.out, of.last = of.out - 1, now or of.last
        if not of.out and of.last is not None:
            self._gap(of.last - of.began)
