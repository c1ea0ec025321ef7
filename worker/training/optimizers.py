"""Optimizers by name, their state as tensors and numbers, and the learning rate of each step."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from torch import nn

from darkroom.worker.errors import TrainingUnavailable
from darkroom.worker.training.options import TrainingOptions

#: Module and class, and the package that has them.
_CLASSES = {
    "adamw": ("torch.optim", "AdamW", "torch"),
    "adamw8bit": ("bitsandbytes.optim", "AdamW8bit", "bitsandbytes"),
    "prodigy": ("prodigyopt", "Prodigy", "prodigyopt"),
}

Number = int | float


@dataclass(frozen=True)
class OptimizerState:
    """By the name of the parameter and that of the value; `group` are the numbers that all parameters share."""

    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    numbers: Mapping[str, Mapping[str, Number]]
    group: Mapping[str, Number]


class Optimizer:
    """A library's optimizer over named parameters."""

    def __init__(self, named: Mapping[str, nn.Parameter], options: TrainingOptions) -> None:
        """Raises TrainingUnavailable where its package is not installed."""
        self._names = list(named)
        make = _class_of(options.optimizer)
        self.inner: Any = make(list(named.values()), lr=options.learning_rate, weight_decay=options.weight_decay)

    def set_rate(self, rate: float) -> None:
        """Of the next step."""
        self._group["lr"] = rate

    def state(self) -> OptimizerState:
        """Copies, on the CPU. A parameter that had no gradient yet has none."""
        kept = {self._names[index]: values for index, values in self.inner.state_dict()["state"].items()}
        tensors = {name: _of_kind(values, torch.Tensor) for name, values in kept.items()}
        on_cpu = {name: {key: one.detach().cpu().clone() for key, one in row.items()} for name, row in tensors.items()}
        numbers = {name: _numbers(values) for name, values in kept.items()}
        return OptimizerState(on_cpu, numbers, {key: one for key, one in _numbers(self._group).items() if key != "lr"})

    def restore(self, state: OptimizerState) -> None:
        """Goes on from there. Raises KeyError for the state of other parameters."""
        places = {name: index for index, name in enumerate(self._names)}
        kept = {
            places[name]: {**state.tensors.get(name, {}), **state.numbers.get(name, {})}
            for name in {*state.tensors, *state.numbers}
        }
        groups = [{**self.inner.state_dict()["param_groups"][0], **state.group}]
        self.inner.load_state_dict({"state": kept, "param_groups": groups})

    @property
    def _group(self) -> dict[str, Any]:
        found: dict[str, Any] = self.inner.param_groups[0]
        return found


def rates(options: TrainingOptions) -> Callable[[int], float]:
    """The learning rate of each step, counted from 0, by diffusers' schedules; it follows from the step alone."""
    name = "cosine" if options.lr_schedule == "cosine" else "constant_with_warmup"
    nothing = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)  # diffusers wants one to set rates of
    schedule = get_scheduler(name, nothing, num_warmup_steps=options.warmup_steps, num_training_steps=options.steps)
    factor = schedule.lr_lambdas[0]
    return lambda step: options.learning_rate * float(factor(step))


def _class_of(name: str) -> Any:
    module, kind, package = _CLASSES[name]
    try:
        return getattr(import_module(module), kind)
    except ImportError as error:
        raise TrainingUnavailable(
            f"the optimizer {name} needs the package {package}, which this worker lacks ({error})",
            hint=f"use the optimizer adamw, or install {package} beside the worker",
        ) from error


def _of_kind(values: Mapping[str, Any], kind: type[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in values.items() if isinstance(value, kind)}


def _numbers(values: Iterable[Any] | Mapping[str, Any]) -> dict[str, Number]:
    assert isinstance(values, Mapping)
    return {key: one for key, one in values.items() if isinstance(one, int | float) and not isinstance(one, bool)}
