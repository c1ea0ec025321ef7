"""The images that step their schedulers between two denoiser calls: who may be waited for."""

from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass

from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.standing import NOBODY, Expected

STANDING = 0.25  # seconds for which others stand still for an urgent image that steps
PAUSE = 0.1  # the same between its other calls: from its prompt to its first step, from its last to its picture
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
        self._apart: dict[Ticket, float] = {}  # solo ones that step, and since when
        self._pauses: dict[int, float] = {}  # of urgent threads between other calls, and since when

    def answered(self, who: Collection[tuple[Ticket, Hashable | None]], now: float) -> None:
        """These have their rows, of one model call. Those that have not left will call again, in the same group.

        Without a group (None) nobody waits for them as company.
        """
        here = [(ticket, group) for ticket, group in who if ticket in self._calling]
        joining = [(ticket, group) for ticket, group in here if group is not None]
        together = _Round(now, len(joining))
        self._stepping |= {ticket: (group, together) for ticket, group in joining}
        self._apart |= {ticket: now for ticket, group in here if group is None}
        self._calling -= {ticket for ticket, _ in here}

    def called(self, ticket: Ticket, now: float) -> None:
        """The image's next call has come."""
        self._calling.add(ticket)
        self._returned(ticket, now)

    def left(self, ticket: Ticket, thread: int = 0, now: float = 0.0) -> None:
        """No denoiser call of this image is expected; after its last one its picture is decoded, as a rule."""
        stepped = ticket in self._stepping or ticket in self._apart
        self._calling.discard(ticket)
        self._returned(ticket, None)
        if stepped and ticket.urgent:
            self.pauses(thread, now)
        else:
            self.goes_on(thread)

    def pauses(self, thread: int, now: float) -> None:
        """An urgent thread has had a call that is none of the denoiser's; its next one comes soon, as a rule."""
        self._pauses[thread] = now

    def goes_on(self, thread: int) -> None:
        """It has come, or none comes."""
        self._pauses.pop(thread, None)

    def coming(self, now: float) -> dict[Hashable, int]:
        """How many images' next call has not come yet, by the group of their last."""
        return _by_group((group, of) for group, of in self._stepping.values() if now - of.began <= PATIENCE)

    def urgent(self, now: float) -> Expected:
        """Those of them that are urgent, and until when others stand still for these, and for solo and pausing ones."""
        urgent = [step for ticket, step in self._stepping.items() if ticket.urgent]
        since = [of.began for _, of in urgent] + [began for ticket, began in self._apart.items() if ticket.urgent]
        until = [began + STANDING for began in since] + [began + PAUSE for began in self._pauses.values()]
        if not until:
            return NOBODY
        return Expected(_by_group(step for step in urgent if now - step[1].began <= PATIENCE), max(until))

    def __len__(self) -> int:
        return len(self._stepping)

    def _returned(self, ticket: Ticket, now: float | None) -> None:
        self._apart.pop(ticket, None)
        _, of = self._stepping.pop(ticket, (None, None))
        if of is None:
            return
        of.out, of.last = of.out - 1, now or of.last
        if not of.out and of.last is not None:
            self._gap(of.last - of.began)


def _by_group(steps: Iterable[tuple[Hashable, _Round]]) -> dict[Hashable, int]:
    found: dict[Hashable, int] = {}
    for group, _ in steps:
        found[group] = found.get(group, 0) + 1
    return found
