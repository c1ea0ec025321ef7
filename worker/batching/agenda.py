"""What the engine has to do, and which of it comes next."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.policy import Batch, Waiting
from darkroom.worker.batching.reply import Reply
from darkroom.worker.batching.spare import Spare
from darkroom.worker.batching.stacking import Call
from darkroom.worker.batching.standing import Expected, Standing
from darkroom.worker.batching.streams import Handed

Work = Callable[[], None]
Choose = Callable[[list[Waiting], float, Expected], Batch | float | None]


class Pending:
    """A denoiser call that waits for its rows."""

    def __init__(self, call: Call, ticket: Ticket, arguments: Handed[None]) -> None:
        self.call, self.ticket, self.arguments = call, ticket, arguments
        self.since = time.monotonic()
        self.reply = Reply[Handed[Any]]()
        self.waiting = Waiting(call.group, call.rows, self.since, ticket.urgent, ticket.solo or call.group is None)


class Agenda:
    """Denoiser calls as a policy puts them together, all other calls in turn between these, `spare` ones last.

    Of other calls the urgent `calls` go before those of `others`, which stand still as their images do. Spare ones come
    while no thread makes an image (`makers`), and else as often as their share of time says. All of it is under the
    engine's lock.
    """

    def __init__(
        self,
        share: Spare,
        standing: Standing,
        expected: Callable[[float], Expected],
        choose: Choose,
        denoise: Callable[[list[Pending], int], None],
    ) -> None:
        """`expected`: the urgent images between two calls. `choose`: which of the calls that wait go together now, or
        when to ask again. `denoise` runs them.
        """
        self._share, self._standing, self._expected = share, standing, expected
        self._choose, self._denoise = choose, denoise
        self.calls: deque[Work] = deque()
        self.others: deque[Work] = deque()
        self.spare: deque[Work] = deque()
        self.waiting: list[Pending] = []
        self.makers = 0
        self._stepped = True  # whether a denoiser call ran since the last other call

    def __bool__(self) -> bool:
        return bool(self.waiting or self.calls or self.others or self.spare)

    def next(self, now: float) -> tuple[Work | None, float | None]:
        """What is to be done at `now`, else the seconds until that may be another thing."""
        if self.spare and (not (self.makers or self.waiting or self.calls or self.others) or self._share.due):
            return partial(self._run_spare, self.spare.popleft(), beside=bool(self.makers)), None
        urgent, expected = self._urgent(now)
        alone = not (self._standing.due or any(one.ticket.urgent for one in self.waiting))
        due = self.calls and (self._stepped or alone)
        if not due and (self._stepped or not self.waiting):
            due = self._may_go(urgent=urgent)
        asks = self.waiting or (urgent and self.others)
        chosen = None
        if asks and not due:
            expected = replace(expected, others=bool(self.others))
            chosen = self._choose([one.waiting for one in self.waiting], now, expected)
        self._stepped = isinstance(chosen, Batch)
        if isinstance(chosen, Batch):
            batch = [self.waiting[index] for index in chosen.calls]
            taken = set(batch)
            self.waiting = [pending for pending in self.waiting if pending not in taken]
            return self._timed(partial(self._denoise, batch, chosen.bucket)), None
        return self._other(urgent=urgent), None if chosen is None else max(0.0, chosen - now)

    def aside(self, now: float) -> Work | None:
        """Another call than the denoiser's that may go at `now`, whatever waits."""
        return self._other(urgent=self._urgent(now)[0])

    def _urgent(self, now: float) -> tuple[bool, Expected]:
        """Whether urgent images are in their steps, or between other calls; those that are expected."""
        expected = self._expected(now)
        return expected.until > now or any(one.ticket.urgent for one in self.waiting), expected

    def _may_go(self, *, urgent: bool) -> bool:
        return bool(self.others) and (not urgent or self._standing.due)

    def _other(self, *, urgent: bool) -> Work | None:
        if self.calls and not (self.others and self._standing.due):
            return self._timed(partial(self._run_call, self.calls.popleft()))
        if not self._may_go(urgent=urgent):
            return None
        work = self._timed(self.others.popleft())
        return partial(self._run_other, work, beside=urgent or bool(self.calls))

    def withdraw(self, one: Pending | Work) -> bool:
        """Takes out what waits to be done; False where it does so no more."""
        queues: list[Any] = [self.waiting, self.calls, self.others, self.spare]
        for queue in queues:
            if one in queue:
                queue.remove(one)
                return True
        return False

    def leave(self, ticket: Ticket) -> list[Pending]:
        """Takes out the calls of an image, and gives them."""
        gone = [pending for pending in self.waiting if pending.ticket is ticket]
        self.waiting = [pending for pending in self.waiting if pending.ticket is not ticket]
        return gone

    def _timed(self, work: Work) -> Work:
        return partial(self._before_spare, work)

    def _before_spare(self, work: Work) -> None:
        began = time.monotonic()
        work()
        if self.spare:  # also what came meanwhile: after a piece the next one takes a moment to come
            self._share.waited(time.monotonic() - began)

    def _run_call(self, work: Work) -> None:
        began = time.monotonic()
        work()
        if self.others or any(not one.ticket.urgent for one in self.waiting):
            self._standing.stood(time.monotonic() - began)

    def _run_other(self, work: Work, *, beside: bool) -> None:
        began = time.monotonic()
        work()
        if beside:
            self._standing.went(time.monotonic() - began, beside=True)

    def _run_spare(self, work: Work, *, beside: bool) -> None:
        began = time.monotonic()
        work()
        self._share.ran(time.monotonic() - began, beside=beside)
