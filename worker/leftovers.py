"""Objects of attempts that came to nothing."""

from collections.abc import Callable

import structlog

from darkroom.storage import ObjectStore, StorageError
from darkroom.tasks.errors import DarkroomError
from darkroom.tasks.job import no_store
from darkroom.tasks.objects import leftovers
from darkroom.tasks.operations import get
from darkroom.tasks.redis_io import BlockingIO

Sweep = Callable[[str], None]


def sweeper(io: BlockingIO, store: ObjectStore) -> Sweep:
    """Deletes, by a job's id, what attempts stored and the record of the ended job does not name.

    What cannot be deleted now is for `darkroom gc` to find.
    """

    def sweep(job_id: str) -> None:
        try:
            for key in leftovers(io.run(get(job_id, no_store)), store):
                store.delete(key)
        except (DarkroomError, StorageError) as error:
            structlog.get_logger().warning("job.not_swept", job_id=job_id, code=error.code)

    return sweep
