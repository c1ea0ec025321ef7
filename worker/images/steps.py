"""Progress of one piece, over all of its passes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from darkroom.worker.failures import Control

OnStep = Callable[[int, int, torch.Tensor], None]


class Abandoned(Control):
    """Ends an image when another of its job has failed."""


class Steps:
    """Counts the steps of all passes in those that were asked for, and remembers what `on_step` raised.

    Some schedulers call the denoiser more than once a step. After a pass's last call `over` says so, before anything
    else: between two passes nobody waits for the image.
    """

    def __init__(self, wanted: int, on_step: OnStep, over: Callable[[], None]) -> None:
        self._wanted, self._on_step, self._over = wanted, on_step, over
        self._done = 0
        self.raised: BaseException | None = None

    def of_pass(self, wanted: int) -> Callable[..., dict[str, Any]]:
        """The callback of a pipeline that makes so many steps."""
        before, self._done = self._done, self._done + wanted

        def step(pipeline: Any, index: int, _timestep: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
            calls = pipeline.num_timesteps
            if index + 1 == calls:
                self._over()
            self._tell(before - (-(index + 1) * wanted // calls), tensors["latents"])
            return {}

        return step

    def is_raised(self, error: BaseException) -> bool:
        """Whether the error is the one that `on_step` raised."""
        return error is self.raised

    @contextmanager
    def outside(self) -> Iterator[None]:
        """What is raised in the block ends the piece and comes out as it is: it is not the model's."""
        try:
            yield
        except BaseException as error:
            self.raised = error
            raise

    def heeding(self, check: Callable[[], None]) -> Callable[[], None]:
        """The check, asked while the piece waits for something: what it raises is not the model's either."""

        def heeded() -> None:
            with self.outside():
                check()

        return heeded

    def _tell(self, step: int, latents: torch.Tensor) -> None:
        with self.outside():
            self._on_step(step, self._wanted, latents)
