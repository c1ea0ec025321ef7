"""Images that share calls of a model whatever the machine is at: none goes on before all have come to their first."""

import threading
from collections.abc import Callable

from darkroom.worker.batching.stacking import Call


def together(count: int) -> Callable[[], Callable[[Call], None]]:
    """For so many images, each on its own thread: gives what each one's ticket has as `on_call`."""
    barrier = threading.Barrier(count)

    def each() -> Callable[[Call], None]:
        first = iter([barrier])

        def on_call(_: Call) -> None:
            for one in first:
                one.wait()

        return on_call

    return each
