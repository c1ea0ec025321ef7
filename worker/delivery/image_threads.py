"""Threads for the images of jobs: those of one job are made at the same time, as far as the process has room."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

#: Makes one image by its index; the event is set when another image of the job has failed, and this one is for nothing.
Work = Callable[[int, threading.Event], T]


class ImageThreads:
    """At most `most` images of all jobs at a time, but of each job at least one, on its own thread.

    Room goes to urgent jobs first, then to the one that has the fewest images in the making: a job of many images
    does not keep one of few waiting. Images of jobs that are not urgent take no room from urgent ones: they stand still
    for these (`darkroom.worker.batching.standing`).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = self._urgent = 0
        self._jobs: list[_Job] = []  # of which images are left
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max(1, 2 * most), thread_name_prefix="darkroom-image")

    def make(self, work: Work[T], count: int, *, urgent: bool = True) -> list[T]:
        """The results of `work` for 0 to `count` - 1, in this order, in which they are also begun.

        After one has raised none is begun any more; those in the making are waited for, then the first error is raised.
        """
        job = _Job(work, count, urgent)
        with self._lock:
            self._jobs.append(job)
        while (index := self._next(job)) is not None:
            self._run(job, index)
        job.done.wait()
        if job.error:
            error, job.error = job.error, None  # its traceback will hold the job
            raise error
        return [job.results[index] for index in range(count)]

    def close(self) -> None:
        """Ends the threads; the jobs are over."""
        self._threads.shutdown()

    def _next(self, job: "_Job") -> int | None:
        """For the job's own thread, which needs no room; what room there is goes to others."""
        with self._lock:
            index = self._take(job)
            self._fill()
        return index

    def _take(self, job: "_Job") -> int | None:
        index = job.take()
        if index is not None:
            self._running += 1
            self._urgent += job.urgent
        elif job in self._jobs:
            self._jobs.remove(job)
        return index

    def _fill(self) -> None:
        while able := [job for job in self._jobs if (self._urgent if job.urgent else self._running) < self._most]:
            job = min(able, key=lambda one: (not one.urgent, one.running))
            index = self._take(job)
            if index is not None:
                self._threads.submit(self._run, job, index)

    def _run(self, job: "_Job", index: int) -> None:
        try:
            job.results[index] = job.work(index, job.over)
        except BaseException as error:  # noqa: BLE001 - raised again on the job's own thread
            with self._lock:
                job.failed(error)
        with self._lock:
            self._running -= 1
            self._urgent -= job.urgent
            job.ended()
            self._fill()


class _Job:
    """The images of one job; the threads' lock is around all but `work`."""

    def __init__(self, work: Work[Any], count: int, urgent: bool) -> None:
        self.work, self.urgent = work, urgent
        self.results: dict[int, Any] = {}
        self.error: BaseException | None = None
        self.over, self.done = threading.Event(), threading.Event()
        self.running = 0
        self._left = list(range(count))

    def take(self) -> int | None:
        """The next image to be begun."""
        if self.over.is_set() or not self._left:
            self._left = []
            self._settle()
            return None
        self.running += 1
        return self._left.pop(0)

    def failed(self, error: BaseException) -> None:
        """The first error counts: others may follow from it."""
        self.error = self.error or error
        self.over.set()

    def ended(self) -> None:
        """An image is made or has failed."""
        self.running -= 1
        self._settle()

    def _settle(self) -> None:
        if not self.running and (self.over.is_set() or not self._left):
            self.done.set()
