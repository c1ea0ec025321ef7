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
    """A library's optimizer over named parameters.

    Its state is taken and set as it lies in the optimizer: `state_dict` is another's own affair in bitsandbytes.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], options: TrainingOptions) -> None:
        """Raises TrainingUnavailable where its package is not installed."""
        self._named = dict(named)
        parameters = list(named.values())
        more = {"fused": True} if options.optimizer == "adamw" and _on_cpu(parameters) else {}
        self.inner: Any = _class_of(options.optimizer)(parameters, lr=options.learning_rate, **more)
        self._group["weight_decay"] = options.weight_decay  # Prodigy prints what it is given of it at first

    def set_rate(self, rate: float) -> None:
        """Of the next step."""
        self._group["lr"] = rate

    def state(self) -> OptimizerState:
        """Copies, on the CPU. A parameter that had no gradient yet has none."""
        kept = {name: self.inner.state[one] for name, one in self._named.items() if self.inner.state.get(one)}
        tensors = {
            name: {key: one.detach().cpu().clone() for key, one in values.items() if isinstance(one, torch.Tensor)}
            for name, values in kept.items()
        }
        numbers = {name: _numbers(values) for name, values in kept.items()}
        group = {key: one for key, one in _numbers(self._group).items() if key != "lr"}  # which follows from the step
        return OptimizerState(tensors, numbers, group)

    def restore(self, state: OptimizerState) -> None:
        """Goes on from there. Raises KeyError for the state of other parameters."""
        for name in {*state.tensors, *state.numbers}:
            parameter = self._named[name]
            tensors = {key: _placed(key, one, parameter) for key, one in state.tensors.get(name, {}).items()}
            self.inner.state[parameter] = {**tensors, **state.numbers.get(name, {})}
        self._group.update(state.group)

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


def _on_cpu(parameters: Iterable[nn.Parameter]) -> bool:
    """There AdamW takes a quarter of the time if it goes over all parameters at once; elsewhere it does so anyway."""
    return all(one.device.type == "cpu" for one in parameters)


def _placed(key: str, value: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """Torch has the number of steps on the CPU, for it is asked there."""
    return value.clone() if key == "step" else value.to(parameter.device, copy=True)


def _numbers(values: Mapping[str, Any]) -> dict[str, Number]:
    return {key: one for key, one in values.items() if isinstance(one, int | float) and not isinstance(one, bool)}
