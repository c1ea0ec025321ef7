"""Two workers on the same cores beside one that has them to itself: each has half of them, and twice the time."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.serving.asks import Load, make_asks
from bench.serving.drive import drive
from bench.serving.run import Options, ready_model, warm
from bench.serving.side import Setup, Side
from bench.serving.sides import make_side
from bench.table import Row

SECONDS, WARM_SECONDS = 10.0, 3.0  # of a round; before one, so that a worker knows whether it is alone
ROUNDS, SIZE, STEPS = 3, 128, 10


def measure() -> list[Row]:
    """Pictures one at a time, with the model that comes with Darkroom; rounds of one worker and of two in turn."""
    alone, beside = list[float](), list[float]()
    with ExitStack() as up:
        folder = Path(up.enter_context(TemporaryDirectory()))
        setup = Setup(ready_model("starter", Options(folder, folder)))
        sides = [up.enter_context(make_side("darkroom", setup)) for _ in range(2)]
        for side in sides:
            warm(side, (SIZE,), 1)
        pool = up.enter_context(ThreadPoolExecutor(len(sides)))
        for _ in range(ROUNDS):
            alone += _pictures(sides[0])
            beside += [seconds for found in pool.map(_pictures, sides) for seconds in found]
    one, two = statistics.median(alone), statistics.median(beside)
    return [
        Row("a worker alone on its cores: a picture", f"{one:.2f} s"),
        Row("two workers on these: a picture of each, against it", f"{two / one:.1f} times", "<= 3", two <= 3 * one),
    ]


def _pictures(side: Side) -> list[float]:
    """The seconds of each picture that was begun after the first moments."""
    began, found = time.monotonic(), list[float]()
    while (passed := time.monotonic() - began) < WARM_SECONDS + SECONDS:
        (sample,) = drive(side, Load(make_asks(1, (SIZE,), (STEPS,))))
        if passed >= WARM_SECONDS:
            found.append(sample.done - sample.due)
    return found
