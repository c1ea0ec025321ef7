"""Objects that nobody needs: of jobs that have ended, and not named by their records."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice

from darkroom.storage import ObjectStore, StoredObject
from darkroom.storage.keys import job_of_made
from darkroom.tasks import Job, QueueBroken
from darkroom.tasks.objects import named_by

BATCH = 1000  # objects whose records are read at once: a page of an S3 listing

Records = dict[str, Job | QueueBroken | None]
Read = Callable[[Iterable[str]], Records]


class Search:
    """One listing of the whole store against the records, in flat memory.

    Only keys of the form that workers give are looked at. Each record is read after its object was listed: what ended
    by then names all that it will ever name, and what has not ended keeps everything. Where the record is gone, objects
    from before `oldest` are unnamed, if a moment is given: a record outlives its job's last object by its lifetime, so
    that an older object cannot be of a job that goes on. What an unreadable record names is not known; its objects
    stay.
    """

    def __init__(self, read: Read, oldest: datetime | None, looked_at: Callable[[int], None]) -> None:
        """`read` gives records by id, None where there is none; `looked_at` hears how many objects were looked at."""
        self._read, self._oldest, self._looked_at = read, oldest, looked_at
        self.unreadable: dict[str, None] = {}

    def unnamed(self, store: ObjectStore) -> Iterator[str]:
        """Their keys, in the order of the listing. What was given may be deleted before the next is asked for."""
        objects = store.list("")
        while batch := list(islice(objects, BATCH)):
            yield from self._of_batch(batch)
            self._looked_at(len(batch))

    def _of_batch(self, batch: list[StoredObject]) -> Iterator[str]:
        made = [(job_id, item) for item in batch if (job_id := job_of_made(item.key))]
        records = self._read(job_id for job_id, _ in made)
        for job_id, item in made:
            job = records[job_id]
            if isinstance(job, QueueBroken):
                self.unreadable[job_id] = None
            elif self._is_unnamed(item, job):
                yield item.key

    def _is_unnamed(self, item: StoredObject, job: Job | None) -> bool:
        if job is None:
            return self._oldest is not None and item.modified < self._oldest
        return job.state.final and item.key not in named_by(job)
