"""The worker's own app and pool in a process of their own, with a task that does as it is told."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from darkroom.tasks import TaskSettings

from .processes import Process

# Each task says that it has begun, and ends as the next letter of standard input says.
PROGRAM = """
import os, sys
import structlog
from darkroom.tasks.settings import TaskSettings
from darkroom.worker.process.app import consume, make_app
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.process.logs import configure_logs

def run(job_id):
    say.info("began", job=job_id)
    order = os.read(0, 1)
    if order not in b".":
        raise {b"x": SystemExit, b"m": MemoryError, b"i": KeyboardInterrupt, b"e": ValueError}[order]
    say.info("ended", job=job_id)

configure_logs("json", "info")
say = structlog.get_logger()
consume(make_app(TaskSettings(), ["sdxl", "sd-1.5"], run), int(sys.argv[1]), lambda: say.info("ready"), Drain(20))
say.info("stopped")
"""

Start = Callable[..., Process]


@contextmanager
def starting(usual: TaskSettings) -> Iterator[Start]:
    """Starts an app; returns once it takes messages."""
    with ExitStack() as stack:

        def begin(concurrency: int = 1, settings: TaskSettings = usual) -> Process:
            environment = {
                "DARKROOM_REDIS_URL": settings.redis_url.get_secret_value(),
                "DARKROOM_REDIS_PREFIX": settings.redis_prefix,
            }
            app = stack.enter_context(Process(["-c", PROGRAM, str(concurrency)], environment))
            app.wait_for("ready")
            return app

        yield begin
