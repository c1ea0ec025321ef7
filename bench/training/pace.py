"""Steps of a training beside those of a bare loop on the same batches: how many a second, and whether the same."""

import time
from collections.abc import Callable

from bench.loras.flight import in_turn, ratio, starter
from bench.table import Row
from bench.training.bare import BareLoop, stock, stock_batches
from bench.training.subject import folder, options, session
from darkroom.worker.images.generate import Generator
from darkroom.worker.training.checkpoint import unpack

EACH = 10  # steps of a round
APART = 1e-5


def pace(rounds: int, batch_size: int, each: int = EACH) -> list[Row]:
    """Rounds of both in turn, on the same thread; the first one does not count."""
    asked = options((rounds + 1) * each, batch_size=batch_size)
    with starter() as (engine, load):
        generator = Generator(load(), engine)
        ours = session(generator, engine, asked)
        model = stock(folder())
        bare = BareLoop(model.unet, model.scheduler, asked, stock_batches(model, asked))
        bare.begin(unpack(ours.checkpoint()).lora)
        theirs: list[float] = []

        def go_on() -> None:
            theirs.extend(bare.advance() for _ in range(each))

        ways = [lambda: _timed(lambda: [ours.advance() for _ in range(each)]), lambda: _timed(engine.call, go_on)]
        our_seconds, their_seconds = (found[1:] for found in in_turn(ways, rounds + 1))
    rate, apart = ratio(their_seconds, our_seconds), max(map(_apart, ours.losses, theirs))
    what = f"a training of {batch_size} a step"
    return [
        Row(f"{what}: steps a second against a bare loop", _rates(rate, our_seconds, each), ">= 0.95", rate >= 0.95),
        Row(f"{what}: losses of {len(theirs)} steps, most apart", f"{apart:.1e}", f"<= {APART:.0e}", apart <= APART),
    ]


def _timed(run: Callable[..., object], *given: object) -> float:
    began = time.perf_counter()
    run(*given)
    return time.perf_counter() - began


def _rates(rate: float, seconds: list[float], each: int) -> str:
    return f"{rate:.3f} ({each * len(seconds) / sum(seconds):.1f} /s)"


def _apart(one: float, other: float) -> float:
    return abs(one - other)
