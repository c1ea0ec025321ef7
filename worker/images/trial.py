"""The first pictures of a model: what they show to be wrong is its files' fault, and never passes by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, NoReturn

import torch

from darkroom.tasks.catalogue import MOST_STEPS, ModelOffer
from darkroom.tasks.errors import DarkroomError
from darkroom.worker.errors import AdapterError, ModelIncompatible
from darkroom.worker.failures import failures_become_ours
from darkroom.worker.images.schedulers import make_scheduler
from darkroom.worker.models.loading import LoadedModel

STEPS = 3

#: Of parts that are no modules.
_FILES = {"scheduler": "scheduler/scheduler_config.json", "pipeline": "model_index.json or a config of a part,"}

_RESTORE = "restore the model's files, or check `family` in the catalogue entry"


class Part:
    """What one part of a model gave."""

    def __init__(self, name: str, model: LoadedModel) -> None:
        self._name, self._dtype, self._own = name, model.placement.dtype, model.entry.own_loras
        self.file = _FILES.get(name, f"{name}/config.json")

    def gave(self, *tensors: torch.Tensor) -> None:
        """Raises ModelIncompatible for numbers that are none."""
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            if self._own:
                self._blame_loras()
            wider = self._dtype == torch.float16
            raise ModelIncompatible(
                f"{self.file} or its weights: the {self._name} gives numbers that are none (NaN or infinity)",
                hint="start the worker with --dtype bfloat16 or float32" if wider else _RESTORE,
            )

    def _blame_loras(self) -> NoReturn:
        loras = ", ".join(f"{one.name} {one.scale:g}" for one in self._own)
        raise ModelIncompatible(
            f"its own LoRAs ({loras}) or what they change: the {self._name} gives numbers that are none with them "
            "(NaN or infinity)",
            hint="lower their scale in `own_loras` of the catalogue entry, or leave them out",
        )


@contextmanager
def blame(name: str, model: LoadedModel) -> Iterator[Part]:
    """Errors that are nobody else's become ModelIncompatible, which names the part and its config.

    Those of an adapter's files stay what they are.
    """
    part = Part(name, model)
    try:
        with failures_become_ours():
            yield part
    except ModelIncompatible as error:
        raise ModelIncompatible(f"model {model.entry.name}: {error.message}", hint=error.hint) from error
    except AdapterError as error:
        raise type(error)(f"model {model.entry.name}: {error.message}", hint=error.hint) from error
    except DarkroomError as error:
        if error.retryable:
            raise
        raise ModelIncompatible(
            f"model {model.entry.name}: {part.file} or what belongs to it gives no picture: {error.message}",
            hint=_RESTORE,
        ) from error


def check_steps(offer: ModelOffer, template: Any) -> None:
    """Each scheduler that is offered takes a few steps, and plans the most that may be asked for, without a model.

    Raises ModelIncompatible, and what the schedulers raise.
    """
    for name in offer.schedulers:
        scheduler = make_scheduler(name, template, offer.family, seed=0)
        _plan(name, scheduler, min(offer.limits.max_steps, MOST_STEPS.get(name, offer.limits.max_steps)))
        scheduler = make_scheduler(name, template, offer.family, seed=0)
        _plan(name, scheduler, STEPS)
        draw = torch.Generator().manual_seed(0)
        drawn = {"generator": draw} if "generator" in signature(scheduler.step).parameters else {}
        latents = torch.randn(1, 4, 8, 8, generator=draw) * scheduler.init_noise_sigma
        for step in scheduler.timesteps:
            given = scheduler.scale_model_input(latents, step)
            latents = scheduler.step(given / 2, step, latents, **drawn).prev_sample
        _check(name, latents)


def _plan(name: str, scheduler: Any, steps: int) -> None:
    scheduler.set_timesteps(steps)
    _check(name, torch.as_tensor(scheduler.timesteps), torch.as_tensor(scheduler.init_noise_sigma))


def _check(name: str, *numbers: torch.Tensor) -> None:
    if not all(bool(found.isfinite().all()) for found in numbers):
        raise ModelIncompatible(
            f"scheduler/scheduler_config.json: {name} gives numbers that are none (NaN or infinity)", hint=_RESTORE
        )
