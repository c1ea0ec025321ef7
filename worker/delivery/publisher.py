"""Tells of a job's progress: its steps, as often as is useful, with a preview now and then, while somebody watches it.

Of a job that nobody watches the renewal of its lease takes along how far it is (`leases.py`), so that what a job costs
Redis does not depend on how long it runs. Trainings publish all the same: few run at a time, a step there is long, and
the curve of their losses is read afterwards, too.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType

import structlog
import torch

from darkroom.tasks.claims import progress
from darkroom.tasks.errors import QueueError
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.word import is_watched
from darkroom.worker.delivery.attempt import Attempt
from darkroom.worker.models.previews import Snapshot

STEP_SECONDS = 0.2  # at the least between two progress events of a job; a job's last step is always told
SILENCE_SECONDS = 5.0  # after a failure, so that a Redis that is away does not slow the denoising

_NOTHING: Mapping[str, float] = MappingProxyType({})


class ProgressPublisher:
    """The progress of one attempt, from any of its images' threads.

    Progress is a courtesy: where Redis fails, the job goes on without it. A preview shows a step that is over by then:
    a GPU is not waited for, and what it has not computed yet is told with a later step.
    """

    def __init__(
        self, io: BlockingIO, attempt: Attempt, preview_every: float, preview: Callable[[torch.Tensor], bytes]
    ) -> None:
        """`preview` makes a JPEG of latents."""
        self._io, self._attempt, self._preview_every, self._preview = io, attempt, preview_every, preview
        self._snapshots: dict[int, Snapshot] = {}  # by image
        self._telling = threading.Lock()
        self._next_step = 0.0
        self._asks_at = time.monotonic() + STEP_SECONDS
        self._next_preview = time.monotonic() + preview_every if preview_every else float("inf")

    def step(self, image: int, step: int, of: int, latents: torch.Tensor) -> None:
        """Tells of a step, if it is time to. Raises Stopped where the attempt must end."""
        self._attempt.progressed(image, step / of)
        self._attempt.check()
        self._attempt.step = {"image": image, "step": step, "of": of, "preview": False}
        if not self._is_watched():
            return
        if not self._telling.acquire(blocking=step == of):
            return  # another image's step is being told
        try:
            self._tell(image, step, of, latents)
        finally:
            self._telling.release()

    def report(self, step: int, of: int, said: Mapping[str, float]) -> None:
        """Tells of a step that has no picture, with these numbers. Raises Stopped as `step` does."""
        self._attempt.progressed(0, step / of)
        self._attempt.check()
        self._tell(0, step, of, None, said)

    def sampling(self, step: int, of: int, number: int, count: int, latents: torch.Tensor) -> None:
        """Tells that a training makes so many samples, now this one, counted from 1. Raises Stopped as `step` does."""
        self._attempt.check()
        self._tell(0, step, of, latents, {"sample": number, "samples": count})

    def _is_watched(self) -> bool:
        """Asks once by itself: who watches a job that they submit comes just after its claim, and it may be short."""
        if not self._attempt.watched and time.monotonic() >= self._asks_at:
            self._asks_at = float("inf")
            with suppress(QueueError):  # the renewal tells of it
                self._attempt.watched = self._io.run(is_watched(self._attempt.claim.job_id))
        return self._attempt.watched

    def _tell(
        self, image: int, step: int, of: int, latents: torch.Tensor | None, said: Mapping[str, float] = _NOTHING
    ) -> None:
        now = time.monotonic()
        if now < self._next_step and (step != of or "sample" in said):
            return
        due = latents is not None and self._attempt.watched and now >= self._next_preview
        picture = self._picture(image, latents) if due and latents is not None else None
        data = {"image": image, "step": step, "of": of, "preview": picture is not None, **said}
        try:
            self._attempt.heard(self._io.run(progress(self._attempt.claim, data, picture)))
        except QueueError as error:
            structlog.get_logger().warning("job.progress_not_told", code=error.code)
            self._next_step = now + SILENCE_SECONDS
            return
        self._next_step = now + STEP_SECONDS
        if picture is not None:
            self._next_preview = now + self._preview_every
            self._snapshots.clear()
        self._attempt.check()

    def _picture(self, image: int, latents: torch.Tensor) -> bytes | None:
        snapshot = self._snapshots[image] = self._snapshots.get(image) or Snapshot(latents)
        return self._preview(snapshot.latents) if snapshot.here else None
