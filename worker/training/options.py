"""What is asked of a training."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

Schedule = Literal["constant", "cosine"]
Targets = Literal["attention", "all"]
OptimizerName = Literal["adamw", "adamw8bit", "prodigy"]
Precision = Literal["model", "float32"]


@dataclass(frozen=True)
class TrainingOptions:
    """All of it, under the names of the request; values are checked there.

    `steps` count changes of the weights, of `batch_size` * `gradient_accumulation` examples each. `alpha` None: the
    rank. `targets`: "attention" are the four projections of each attention, "all" the other layers of attention blocks
    and those of residual blocks, too. `min_snr_gamma` has no say in models that are trained under EDM.
    `max_grad_norm` 0: gradients are not clipped. `precision`: "model" leaves the base in the dtype in which it is
    loaded, "float32" trains on a copy of it; the LoRA itself is always float32. `prior_loss_weight`: of the loss
    on a batch's `prior`.
    """

    steps: int
    seed: int
    rank: int = 16
    alpha: float | None = None
    learning_rate: float = 1e-4
    lr_schedule: Schedule = "cosine"
    warmup_steps: int = 0
    batch_size: int = 1
    gradient_accumulation: int = 1
    text_encoder: bool = False
    targets: Targets = "attention"
    min_snr_gamma: float | None = 5.0
    noise_offset: float = 0.0
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    precision: Precision = "model"
    prior_loss_weight: float = 1.0

    @property
    def scale(self) -> float:
        """The alpha of every layer."""
        return float(self.rank if self.alpha is None else self.alpha)

    @property
    def digest(self) -> str:
        """SHA-256 of all of them: trainings of other options are other trainings.

        Those that are as by default are left out, so that a release with further ones goes on with what is under way.
        """
        defaults = asdict(TrainingOptions(steps=0, seed=-1))
        chosen = {name: value for name, value in asdict(self).items() if value != defaults[name]}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
