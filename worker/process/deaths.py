"""What a parent does when it sees a worker process end: it says so in Redis, and the process's jobs go to others."""

import os
import platform
import secrets
import threading
import time
from contextlib import closing

import structlog

from darkroom.storage import open_store
from darkroom.storage.stores import load_settings
from darkroom.tasks.deaths import bury
from darkroom.tasks.errors import QueueAuthFailed, QueueError
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.settings import TaskSettings
from darkroom.worker.delivery.janitor import ENDS
from darkroom.worker.delivery.leftovers import sweeper

RETRY_SECONDS = 0.5
PATIENCE_SECONDS = 60.0  # with a Redis that is away; the leases are over by then
LAST_SECONDS = 3.0  # for what is still to be said when the parent stops


def new_incarnation() -> str:
    """Tells a process from one that had its number before."""
    return secrets.token_hex(4)


def own_name(incarnation: str) -> str:
    """Under which this process claims jobs."""
    return f"{platform.node()}:{os.getpid()}:{incarnation}"


class Deaths:
    """Tells of each death on a thread of its own: nothing that goes wrong there keeps the parent from its children."""

    def __init__(self) -> None:
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._log = structlog.get_logger()

    def tell_of(self, incarnation: str) -> None:
        """Soon: the jobs of this process are counted as lost to it, and queued again. Never raises."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=self._tell_of, args=(incarnation,), name="darkroom-death", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads: the leases will run out
            self._log.warning("worker.death_not_told", incarnation=incarnation, error=str(error))
        else:
            self._threads.append(thread)

    def close(self) -> None:
        """What is being told has a last moment; a Redis that is away is not waited for any more."""
        self._closing.set()
        until = time.monotonic() + LAST_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _tell_of(self, incarnation: str) -> None:
        try:
            rules = TaskSettings()
            with closing(BlockingIO(rules)) as io:
                done = self._buried(io, incarnation, rules)
                for job_id, outcome in done.items():
                    self._log.warning("job.lost", job_id=job_id, incarnation=incarnation, outcome=outcome)
                ended = [job_id for job_id, outcome in done.items() if outcome in ENDS]
                if ended:  # what they have stored belongs to nobody, and the janitor will not hear of them
                    sweep = sweeper(io, open_store(load_settings()))
                    for job_id in ended:
                        sweep(job_id)
        except QueueError as error:
            self._log.warning("worker.death_not_told", incarnation=incarnation, code=error.code, error=error.message)
        except Exception:  # noqa: BLE001 - the leases will run out
            self._log.exception("worker.death_not_told", incarnation=incarnation)

    def _buried(self, io: BlockingIO, incarnation: str, rules: TaskSettings) -> dict[str, str]:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return io.run(bury(platform.node(), incarnation, rules))
            except QueueError as error:
                passes = error.retryable or isinstance(error, QueueAuthFailed)
                if not passes or time.monotonic() > until or self._closing.wait(RETRY_SECONDS):
                    raise
                self._log.warning("worker.death_not_told_yet", incarnation=incarnation, code=error.code)
