"""The one thread that runs a process's model calls: denoiser calls stacked as the policy says, all others in turn.

Weights, tokenizers and offload hooks are shared by all jobs and none of them stands being used twice at a time.
One thread keeps the peak of memory at one call's, and CUDA graphs and the OpenMP team where they were made.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar

import torch

from darkroom.worker.batching.agenda import Agenda, Pending, Work
from darkroom.worker.batching.batches import Batches, Outcome
from darkroom.worker.batching.crowd import Crowd
from darkroom.worker.batching.extras import Extra
from darkroom.worker.batching.graphs import Graphs
from darkroom.worker.batching.neighbours import Neighbours
from darkroom.worker.batching.pace import Pace
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.batching.policy import Batch, Policy, Waiting
from darkroom.worker.batching.reply import Reply, answer
from darkroom.worker.batching.spare import SHARE, Spare
from darkroom.worker.batching.stacking import Call
from darkroom.worker.batching.standing import NOBODY, Expected, check_of, is_urgent
from darkroom.worker.batching.stats import EngineStats
from darkroom.worker.batching.streams import Handed, Streams
from darkroom.worker.batching.threads import set_threads
from darkroom.worker.failures import let_go, tells_of_memory
from darkroom.worker.spans import span

P = ParamSpec("P")
T = TypeVar("T")


class EngineClosed(RuntimeError):
    """A model call came after `close`."""


class ImageLeft(RuntimeError):
    """A denoiser call waited while its image was taken out."""


class Engine:
    """Runs calls on its own thread under `torch.no_grad`, with `threads` CPU threads for each.

    Made before anything is computed: the thread that makes it, and those that make images, have one CPU thread each.
    On a CUDA `device` with `streams` of its own; with `graphs` denoiser calls are recorded there and replayed.
    `spare`: the share of the time that `spare` calls have while images are in the making.
    """

    def __init__(
        self,
        threads: int,
        policy: Policy | None = None,
        device: torch.device | None = None,
        *,
        graphs: bool = False,
        spare: float = SHARE,
    ) -> None:
        set_threads(1)
        self._threads = threads
        self.policy = policy or Policy()
        self.streams = Streams(device)
        self._stats = EngineStats()
        self._changed = threading.Condition()
        self._crowd = Crowd(self._gap)
        self._agenda = Agenda(Spare(spare), self.policy.standing, self._expected, self._choose, self._denoise)
        on_cores = device is None or device.type == "cpu"  # elsewhere the thread has no team at work
        self._neighbours = Neighbours(threads if on_cores else 1)
        self._pace = Pace(self._ran)
        self._batches = Batches(self.policy, self._pace, self._stats, Graphs() if graphs else None)
        self._idle_since = time.monotonic()
        self._began: float | None = None  # the work that the device may still be at
        self._closed = False
        # A daemon, so that a process that dies of something else does not wait for it.
        self._thread = threading.Thread(target=self._run, name="darkroom-engine", daemon=True)
        self._thread.start()

    def call(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`fn(*args, **kwargs)` on the engine's thread; blocks. Whatever it raises comes out here, SystemExit too.

        While images wait for their denoiser, at most one such call runs between two of its steps, others only while it
        waits for company or the device has its next calls. What is not urgent (`standing.asking`) stands still as such
        images do. From the engine's own thread it is a plain call. Raises EngineClosed after `close`.
        """
        return self._answered(self._agenda.calls if is_urgent() else self._agenda.others, fn, *args, **kwargs)

    def spare(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`fn(*args, **kwargs)` as `call` does it, once no image is in the making, or its share of the time says so.

        What it computes with gradients has to ask for them: the thread runs without.
        """
        return self._answered(self._agenda.spare, fn, *args, **kwargs)

    @contextmanager
    def making(self) -> Iterator[None]:
        """The context makes images: what may wait leaves them the device."""
        with self._changed:
            self._agenda.makers += 1
        try:
            yield
        finally:
            with self._changed:
                self._agenda.makers -= 1
                self._changed.notify()

    def denoise(
        self,
        module: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        ticket: Ticket,
        extras: tuple[Extra, ...] = (),
    ) -> Any:
        """`module(*args, **kwargs)`, stacked with the calls of other images that fit; blocks. `extras`: see `Call`.

        From the first call on, others may wait for this image's next one, until `leave`. Raises what the module raises
        for this call alone, ImageLeft, EngineClosed, and what the ticket's `on_wait` does while the call waits.
        """
        pending = Pending(Call.of(module, args, kwargs, extras), ticket, self.streams.handed(None))
        if threading.current_thread() is self._thread:
            return pending.call.run()
        ticket.on_call(pending.call)
        with self._entering():
            self._crowd.called(ticket, pending.since)
            self._agenda.waiting.append(pending)
        with span("denoise"):
            return pending.reply.take(ticket.on_wait, partial(self._withdraw, pending)).take()

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for this image any more; a call of its that waits raises ImageLeft. May be repeated."""
        with self._changed:
            self._crowd.left(ticket, threading.get_ident(), time.monotonic())
            gone = self._agenda.leave(ticket)
            self._changed.notify()
        for pending in gone:
            pending.reply.fail(ImageLeft("the image was taken out"))

    @contextmanager
    def image(self, *, urgent: bool = True, solo: bool = False, script: Script | None = None) -> Iterator[Ticket]:
        """A ticket for one image; see `Ticket`."""
        ticket = Ticket(urgent=urgent, solo=solo, script=script)
        try:
            yield ticket
        finally:
            self.leave(ticket)

    def stats(self) -> EngineStats:
        """What was done until now."""
        with self._changed:
            now = {"waiting": len(self._agenda.waiting), "stepping": len(self._crowd), "spare": len(self._agenda.spare)}
            return replace(self._stats, model_calls=dict(self._stats.model_calls), **now)

    def busy_seconds(self) -> float:
        """How long the oldest call that is not done has run; 0 where there is none. For one thread to ask."""
        since = [began for began in (self._began, self._pace.behind_since()) if began is not None]
        return time.monotonic() - min(since) if since else 0.0

    def close(self) -> None:
        """Finish the calls that are waiting, then end the thread. May be repeated."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answered(self, queue: deque[Work], fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if threading.current_thread() is self._thread:
            return fn(*args, **kwargs)
        reply = Reply[Handed[T]]()
        work = partial(self._beside, self.streams.handed(None), fn, *args, **kwargs)
        call = partial(answer, reply, work, partial(self._done, queue, threading.get_ident()))
        with self._entering():
            queue.append(call)
        return reply.take(check_of(), partial(self._withdraw, call)).take()

    @contextmanager
    def _entering(self) -> Iterator[None]:
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine is closed")
            self._crowd.goes_on(threading.get_ident())
            yield
            self._changed.notify()

    def _withdraw(self, one: Pending | Work) -> bool:
        with self._changed:
            return self._agenda.withdraw(one)

    # What follows runs on the engine's thread.

    def _run(self) -> None:
        set_threads(self._threads)
        with torch.no_grad():
            while (work := self._next()) is not None:
                self._began = time.monotonic()
                work()
                del work  # or its tensors would live until the next call comes
        self._neighbours.forget()

    def _next(self) -> Work | None:
        """What is to be done now; waits for it. None where the engine is closed and nothing is left."""
        try:
            with self._changed:
                if self._pace.full and (work := self._agenda.aside(time.monotonic())):
                    return work
            self._pace.wait()
        except BaseException as error:  # noqa: BLE001 - the device is gone: whoever waits has to hear of it
            return partial(self._fail, error)
        self._began = None
        with self._changed:
            self._idle_since = time.monotonic()
            self.policy.ended(self._idle_since)
            while True:
                try:
                    work, seconds = self._agenda.next(time.monotonic())
                except BaseException as error:  # noqa: BLE001 - nobody may wait for ever, nor this thread end
                    return partial(self._fail, error)
                if work or (self._closed and not self._agenda):
                    return work
                self._changed.wait(seconds)

    def _choose(self, waiting: list[Waiting], now: float, expected: Expected) -> Batch | float | None:
        return self.policy.choose(waiting, 0 if self._closed else self._crowd.coming(now), now, expected)

    def _expected(self, now: float) -> Expected:
        return NOBODY if self._closed else self._crowd.urgent(now)

    def _done(self, queue: deque[Work], thread: int) -> None:
        if queue is self._agenda.calls:
            with self._changed:
                self._crowd.pauses(thread, time.monotonic())

    def _beside(self, before: Handed[None], fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Handed[T]:
        name = getattr(fn, "__name__", "").strip("_")
        with self.streams.others(), span(f"call {name}"):
            before.take()
            try:
                result = self.streams.handed(fn(*args, **kwargs))
            except Exception as error:
                if not tells_of_memory(error):
                    raise
                let_go(error)
                if not self._batches.give_memory():
                    raise
                result = self.streams.handed(fn(*args, **kwargs))
        self._pace.started(result.event)
        return result

    def _denoise(self, batch: list[Pending], bucket: int) -> None:
        now = time.monotonic()
        for pending in batch:
            company = now - max(pending.since, self._idle_since)
            pending.ticket.waited += company
            self._stats.started(now - pending.since, company)
        handed: Handed[Any] = Handed(None, None)
        try:
            with self.streams.denoiser():
                for pending in batch:
                    pending.arguments.take()
                outcomes = self._batches.run([(pending.call, pending.ticket) for pending in batch], bucket)
                handed = self.streams.handed(None)
        except BaseException as error:  # noqa: BLE001 - a fault of ours, or a device that is gone
            outcomes = [Outcome(error=error)] * len(batch)
        back = [one for one, outcome in zip(batch, outcomes, strict=True) if outcome.error is None]
        with self._changed:
            groups = [(one.ticket, None if one.waiting.solo else one.call.group) for one in back]
            self._crowd.answered(groups, time.monotonic())
        for pending, outcome in zip(batch, outcomes, strict=True):
            if outcome.error is not None:
                pending.reply.fail(outcome.error)
            else:
                pending.ticket.placements.add(outcome.places)
                pending.reply.give(Handed(outcome.result, handed.event))

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            failed, self._agenda.waiting = self._agenda.waiting, []
        for pending in failed:
            pending.reply.fail(error)

    def _ran(self, group: Hashable, bucket: int, seconds: float) -> None:
        self._stats.measured(seconds)
        self.policy.ran(group, bucket, seconds)
        self._neighbours.look()

    def _gap(self, seconds: float) -> None:
        self._stats.gap = 0.0 if self._pace.busy else seconds
        self.policy.gap(self._stats.gap)
