"""Objects of attempts that came to nothing."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from darkroom.storage import ObjectStore, StorageError
from darkroom.tasks.errors import DarkroomError
from darkroom.tasks.objects import leftovers
from darkroom.tasks.records import get
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.results import no_store

Sweep = Callable[[str], None]

LAST_SECONDS = 2.0  # for what is still to be swept when the worker stops


def sweeper(io: BlockingIO, store: ObjectStore) -> Sweep:
    """Deletes, by a job's id, what attempts stored and the record of the ended job does not name.

    What cannot be deleted now is for `darkroom gc` to find.
    """

    def sweep(job_id: str) -> None:
        try:
            job = io.run(get(job_id, no_store))
            for key in leftovers(job, store) if job.claims else ():
                store.delete(key)
        except (DarkroomError, StorageError) as error:
            structlog.get_logger().warning("job.not_swept", job_id=job_id, code=error.code)
        except Exception:  # noqa: BLE001 - whoever sweeps goes on with the next
            structlog.get_logger().exception("job.not_swept", job_id=job_id)

    return sweep


class LaterSweep:
    """A sweep on a thread of its own: a store that hangs keeps neither a job's slot nor the janitor."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._asked: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="darkroom-sweep", daemon=True)

    def __call__(self, job_id: str) -> None:
        """Soon."""
        self._asked.put(job_id)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asked.put(None)
        self._thread.join(LAST_SECONDS)

    def _run(self) -> None:
        while (job_id := self._asked.get()) is not None:
            self._sweep(job_id)
