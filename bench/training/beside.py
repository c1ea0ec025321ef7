"""A training and pictures in one worker: what a picture waits for more, and what is left to the training."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from bench.loras.flight import ENTRY, IN_FLIGHT, Job, flight, job, picture
from bench.table import Row
from bench.training.subject import options, session
from darkroom.worker.batching.engine import Engine
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.warm import warm
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.training.session import Session

STEPS = 100_000  # more than there is time for
EACH = 4  # pictures of a round
FLIGHTS = 3  # a step more or less is not to count for much
SHARE = 0.1

P = ParamSpec("P")
T = TypeVar("T")


class CountingEngine(Engine):
    """Keeps the seconds of what may wait, and of the other calls that are no denoiser's."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.spared, self.called = 0.0, 0.0

    def spare(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As the engine's."""

        def timed() -> T:
            began = time.perf_counter()
            try:
                return fn(*args, **kwargs)
            finally:
                self.spared += time.perf_counter() - began

        return super().spare(timed)

    def call(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As the engine's."""

        def timed() -> T:
            began = time.perf_counter()
            try:
                return fn(*args, **kwargs)
            finally:
                self.called += time.perf_counter() - began

        return super().call(timed)

    @property
    def others(self) -> float:
        """Seconds of all that does not wait for it."""
        return self.called + self.stats().busy


def beside(rounds: int, batch_size: int, flights: int = FLIGHTS, **fields: int) -> list[Row]:
    """Rounds of one picture after the other, with a training under way and without, in turn; then flights of many.

    `fields` of all pictures' requests.
    """
    settings = WorkerSettings(device="cpu")
    placement = choose_placement(settings)
    with CountingEngine(placement.threads) as engine:
        generator = Generator(load_model(ENTRY, placement, settings), engine)
        warm(generator)
        asked, going = job(generator, **fields), session(generator, engine, options(STEPS, batch_size=batch_size))
        quiet, busy = _latencies(asked, going, rounds)
        share = _share(engine, [asked] * IN_FLIGHT * flights, going)
    times = busy / quiet
    return [
        Row("a picture while a training runs, against an idle worker", f"{times:.2f}", "<= 1.5", times <= 1.5),
        Row(f"{IN_FLIGHT} in flight: the training's share", f"{share:.3f}", f">= {SHARE}", share >= SHARE),
    ]


def _latencies(asked: Job, going: Session, rounds: int) -> tuple[float, float]:
    """Median seconds of a picture alone, and beside a training."""
    alone, beside = list[float](), list[float]()
    for _ in range(rounds):
        alone += [_seconds(asked) for _ in range(EACH)]
        with _under_way(going):
            beside += [_seconds(asked) for _ in range(EACH)]
    return statistics.median(alone), statistics.median(beside)


def _seconds(asked: Job) -> float:
    began = time.perf_counter()
    picture(asked)
    return time.perf_counter() - began


def _share(engine: CountingEngine, jobs: Sequence[Job], going: Session) -> float:
    """Of the engine's time while these pictures are made, as many at a time as are in flight."""
    with _under_way(going):
        spared, others = engine.spared, engine.others
        flight(jobs)
        spared, others = engine.spared - spared, engine.others - others
    return spared / (spared + others)


@contextmanager
def _under_way(going: Session) -> Iterator[None]:
    """Steps one after the other, from before the context until after it."""
    ended, began = threading.Event(), threading.Event()

    def train() -> None:
        while not ended.is_set():
            going.advance()
            began.set()

    thread = threading.Thread(target=train)
    thread.start()
    began.wait()
    try:
        yield
    finally:
        ended.set()
        thread.join()
