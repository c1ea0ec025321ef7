"""The training loop of every stage: seeded by step, checkpointed by time, resumable to the same weights."""

import csv
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Loss = Callable[[int, np.random.Generator], Tensor]

CHECKPOINT_SECONDS = 600.0
_LOG_EVERY = 25  # steps


def device() -> torch.device:
    """Where everything is trained: the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half() -> torch.autocast:
    """The context in which models are called: bfloat16 where that loses nothing."""
    return torch.autocast(device().type, torch.bfloat16)


@dataclass(frozen=True)
class Stage:
    """One stage of the training: `name` names its files, `rate` is the highest learning rate."""

    name: str
    steps: int
    rate: float
    warmup: int = 100
    average: float = 0.999
    weight_decay: float = 0.0
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """A linear warm-up, then half a cosine down to a hundredth."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def say(line: str) -> None:
    """One line of progress."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Run:
    """The state of a stage: the module, its moving average, the optimizer, and how many steps were done."""

    def __init__(self, stage: Stage, module: nn.Module, folder: Path) -> None:
        self.stage, self.module, self.folder = stage, module.to(device()), folder
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            module.parameters(), lr=stage.rate, betas=(0.9, 0.99), weight_decay=stage.weight_decay, foreach=True
        )
        self.step, self.seconds = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._load()

    @property
    def path(self) -> Path:
        """Where the checkpoint lies; outside the repository, since it holds the optimizer's state."""
        return self.folder / f"{self.stage.name}.pt"

    @property
    def curve(self) -> Path:
        """The CSV of the losses: step, seconds, loss, rate."""
        return self.folder / f"{self.stage.name}.csv"

    def train(self, loss: Loss, until: int | None = None, every: float = CHECKPOINT_SECONDS) -> None:
        """Goes on to the stage's last step, or to `until`; a checkpoint `every` so many seconds and at the end."""
        end = min(self.stage.steps, until or self.stage.steps)
        saved, started = time.monotonic(), time.monotonic() - self.seconds
        recent: list[float] = []
        while self.step < end:
            recent.append(self._one(loss))
            self.seconds = time.monotonic() - started
            if self.step % _LOG_EVERY == 0 or self.step == end:
                self._log(sum(recent) / len(recent))
                recent = []
            if time.monotonic() - saved > every:
                self.save()
                saved = time.monotonic()
        self.save()

    def use_average(self) -> None:
        """Puts the moving average into the module, for use after the training."""
        self.module.load_state_dict(self.average)

    def save(self) -> None:
        """Writes the checkpoint beside the old one, then puts it in its place."""
        kept = ("step", "seconds", "average")
        state: dict[str, Any] = {name: getattr(self, name) for name in kept}
        state["module"], state["optimizer"] = self.module.state_dict(), self.optimizer.state_dict()
        torch.save(state, self.path.with_suffix(".new"))
        self.path.with_suffix(".new").replace(self.path)

    def _load(self) -> None:
        state = torch.load(self.path, map_location=device(), weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.average = state["step"], state["seconds"], state["average"]

    def _one(self, loss: Loss) -> float:
        torch.manual_seed(self.stage.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.stage.rate_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        value = loss(self.step, np.random.default_rng([self.stage.seed, self.step]))
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._follow()
        return float(value.detach())

    def _follow(self) -> None:
        """Moves the average; faster in the beginning, when the weights still run."""
        weight = 1 - min(self.stage.average, (1 + self.step) / (10 + self.step))
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, weight)

    def _log(self, loss: float) -> None:
        new = not self.curve.exists()
        with self.curve.open("a", newline="") as file:
            rows = csv.writer(file)
            if new:
                rows.writerow(["step", "seconds", "loss", "rate"])
            rows.writerow([self.step, round(self.seconds, 1), f"{loss:.5f}", f"{self.stage.rate_at(self.step):.3g}"])
        say(f"{self.stage.name}: step {self.step}/{self.stage.steps}, {self.seconds:.0f} s, loss {loss:.5f}")
