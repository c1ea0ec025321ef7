"""An engine that is kept busy, so that calls gather before it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from darkroom.worker.batching.engine import Engine


@contextmanager
def held(engine: Engine) -> Iterator[None]:
    """The engine is busy with something else within the block."""
    entered, gate = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        gate.wait()

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(engine.call, hold)
        entered.wait()
        yield
        gate.set()
        busy.result()
