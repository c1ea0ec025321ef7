"""Denoiser calls as the policy put them together, run and recovered: for one thread, without queues and locks."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from darkroom.worker.batching.capacity import SHARE, SHARE_RECORDED, Capacity
from darkroom.worker.batching.extras import Widths
from darkroom.worker.batching.graphs import Graphs
from darkroom.worker.batching.pace import Pace
from darkroom.worker.batching.placements import Place, Places, Ticket
from darkroom.worker.batching.policy import Policy
from darkroom.worker.batching.stacking import Call, concatenated, run_plainly, run_stacked, widest
from darkroom.worker.batching.stats import EngineStats
from darkroom.worker.failures import let_go, tells_of_memory
from darkroom.worker.spans import span


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call's result and the places that it ran at, or the error that is its own."""

    result: Any = None
    places: Places = ()
    error: BaseException | None = None


class Batches:
    """Runs batches of calls of one group.

    An error ends only the call that raises it: after one among several calls each is repeated alone, at its own place
    of the same bucket, so that its bits are what they would have been. Memory that does not suffice halves the most
    rows of the group from then on; calls are divided, down to single rows.
    """

    def __init__(self, policy: Policy, pace: Pace, stats: EngineStats, graphs: Graphs | None = None) -> None:
        self._policy, self._pace, self._stats, self._graphs = policy, pace, stats, graphs
        self._run = graphs.run if graphs else run_plainly
        self._capacity = Capacity(policy.limit, SHARE_RECORDED if graphs else SHARE)

    def run(self, batch: Sequence[tuple[Call, Ticket]], bucket: int) -> list[Outcome]:
        """What became of each call, in their order; raises nothing."""
        if len(batch) == 1:
            ((call, ticket),) = batch
            script = ticket.script.next(call.rows) if ticket.script else None
            return [self._alone(call, script or self._planned(call, call.rows, bucket, call.widths))]
        calls = [call for call, _ in batch]
        places = list(_places(calls, bucket))
        try:
            results = self._model_call(calls, bucket, 0, widest(calls))
        except BaseException as error:  # noqa: BLE001 - this thread has to live on
            let_go(error)
            memory = tells_of_memory(error)
        else:
            return [Outcome(result, (place,)) for result, place in zip(results, places, strict=True)]
        if memory:
            self._limit(calls[0].group, bucket)
            return self._halved(batch)
        self._stats.repeated += len(calls)
        return [self._alone(call, (place,)) for call, place in zip(calls, places, strict=True)]

    def _halved(self, batch: Sequence[tuple[Call, Ticket]]) -> list[Outcome]:
        half = len(batch) // 2
        return [outcome for part in (batch[:half], batch[half:]) for outcome in self._smaller(part)]

    def _smaller(self, batch: Sequence[tuple[Call, Ticket]]) -> list[Outcome]:
        """Halved again where the cap, as it is by now, asks for it: what is known to be too much is not tried."""
        rows, group = sum(call.rows for call, _ in batch), batch[0][0].group
        if len(batch) > 1 and rows > self._policy.cap(group):
            return self._halved(batch)
        return self.run(batch, self._policy.bucket_for(group, rows))

    def _alone(self, call: Call, places: Places) -> Outcome:
        try:
            if call.group is None:
                self._stats.ran(call.rows, call.rows, call.rows if call.widths else 0)
                return Outcome(call.run(), (Place(call.rows, 0, call.rows, call.widths),))
            return self._in_parts(call, list(places))
        except BaseException as error:  # noqa: BLE001 - the caller gets it; this thread has to live on
            return Outcome(error=error)

    def _in_parts(self, call: Call, planned: list[Place]) -> Outcome:
        """The call's rows at the planned places, or in smaller parts where memory does not suffice for these."""
        results: list[Any] = []
        done: list[Place] = []
        start = 0
        while planned:
            place = planned.pop(0)
            try:
                part = call.part(start, start + place.rows)
                results += self._model_call([part], place.bucket, place.first, place.widths)
            except BaseException as error:
                if place.bucket == 1 or not tells_of_memory(error):
                    raise
                let_go(error)
                self._limit(call.group, place.bucket)
                planned = list(self._planned(call, call.rows - start, 0, place.widths))
                continue
            done.append(place)
            start += place.rows
        return Outcome(concatenated(results), tuple(done))

    def _planned(self, call: Call, rows: int, bucket: int, widths: Widths) -> Places:
        """Places of the call's last rows: all in `bucket` if it holds them, else in as few parts as the cap allows."""
        group = call.group
        most = self._policy.cap(group)
        if rows <= min(most, bucket):
            return (Place(bucket, 0, rows, widths),)
        sizes = [min(most, rows - start) for start in range(0, rows, most)]
        return tuple(Place(self._policy.bucket_for(group, size), 0, size, widths) for size in sizes)

    def _model_call(self, calls: list[Call], bucket: int, first: int, widths: Widths) -> list[Any]:
        group, device = calls[0].group, calls[0].device
        with span(f"batch {bucket}"), self._capacity.measured(group, bucket, device, widths):
            run = partial(run_stacked, calls, bucket, first, self._run, widths)
            results = self._pace.run(run, group, bucket, device)
        adapted = sum(call.rows for call in calls if call.widths)
        self._stats.ran(bucket, sum(call.rows for call in calls), adapted)
        self._stats.cap = self._policy.cap(group)
        return results

    def give_memory(self) -> bool:
        """Gives back what is held for later calls; False where there is nothing to give."""
        held = self._graphs.clear() if self._graphs else False
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return held

    def _limit(self, group: Hashable, bucket: int) -> None:
        self._stats.out_of_memory += 1
        self._policy.limit(group, max(1, bucket // 2))
        self.give_memory()


def _places(calls: Sequence[Call], bucket: int) -> Iterator[Place]:
    first, widths = 0, widest(calls)
    for call in calls:
        yield Place(bucket, first, call.rows, widths)
        first += call.rows
