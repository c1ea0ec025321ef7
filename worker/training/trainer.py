"""The loop of a training, a step at a time; between two steps it can be kept, and go on elsewhere."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from darkroom.worker.errors import ModelIncompatible, TrainingDiverged, TrainingUnavailable
from darkroom.worker.models.device import OFFLOAD_MODES
from darkroom.worker.models.families.inpainting import PLAIN
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.training.batch import Batch, Conditioning
from darkroom.worker.training.checkpoint import TrainingState, check, differences, pack, surroundings, unpack
from darkroom.worker.training.conditioning import encode_captions
from darkroom.worker.training.export import lora_file
from darkroom.worker.training.lora import add_lora
from darkroom.worker.training.losses import objective_of
from darkroom.worker.training.optimizers import Optimizer, rates
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.view import checkpoint_gradients, view_of

#: The families whose training is known.
TRAINABLE = ("sd", "sdxl", "playground")

Batches = Callable[[int, int], Batch]


@dataclass(frozen=True)
class StepReport:
    """One change of the weights. `step`: how many are done; `loss`: the mean of its examples, weighted by their noise.

    `loss_prior`: the same of what keeps what the model knew, where there is such. `gradient_norm`: before it was
    clipped. None: it overflowed in float16, and the step changed nothing.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float | None
    loss_prior: float | None = None


class Trainer:
    """Trains a LoRA on views of a loaded model, whose own modules it neither changes nor calls.

    `batches` gives what to learn from by step, counted from 0, and by pass through the denoiser within it; the same
    every time. `dataset`: a digest of what the batches come from. `losses` are those of the steps that are done.
    """

    def __init__(self, model: LoadedModel, options: TrainingOptions, batches: Batches, dataset: str = "") -> None:
        """To be made while nothing else calls the model's modules.

        Raises ModelIncompatible for a model that cannot be trained, TrainingUnavailable for one that this worker cannot
        train as it runs.
        """
        check_trainable(model)
        self.losses: list[float] = []
        self._model, self._options, self._batches = model, options, batches
        scheduler = model.components["scheduler"]
        self._objective = objective_of(
            scheduler, min_snr_gamma=options.min_snr_gamma, noise_offset=options.noise_offset
        )
        parts = ("unet", *(model.family.encoders if options.text_encoder else ()))
        with _recording():
            self._views = {part: self._view(model.components[part]) for part in parts}
            self._lora = add_lora(self._views, options)
        self._named = {name: one for matrices in self._lora for name, one in matrices.named().items()}
        self._optimizer, self._rates = Optimizer(self._named, options), rates(options)
        dtype = torch.float32 if options.precision == "float32" else model.placement.dtype
        self._autocast: dict[str, Any] = {"device_type": model.placement.device.type, "dtype": dtype}
        self._scaler = torch.amp.GradScaler(model.placement.device.type, enabled=dtype == torch.float16)
        self._training = {"model": _digest_of(model), "dataset": dataset, "set of options": options.digest}

    @property
    def step(self) -> int:
        """How many are done."""
        return len(self.losses)

    def advance(self) -> StepReport:
        """One step. Raises TrainingDiverged where the loss or its gradient is no number; the weights are as before."""
        rate, passes = self._rates(self.step), self._options.gradient_accumulation
        self._optimizer.set_rate(rate)
        try:
            with _recording():
                learned = [self._learn_both(self._batches(self.step, micro)) for micro in range(passes)]
                loss = sum(own for own, _ in learned) / passes
                kept = [prior for _, prior in learned if prior is not None]
                if not math.isfinite(whole := loss + sum(kept)):
                    raise TrainingDiverged(f"step {self.step + 1}: the loss is {whole}")
                norm = self._change()
        finally:
            self._optimizer.inner.zero_grad()  # else pictures that are made before the next step lack their memory
        self.losses.append(loss)
        return StepReport(self.step, loss, rate, norm, sum(kept) / len(kept) if kept else None)

    def checkpoint(self) -> bytes:
        """All that is needed to go on, as one safetensors file."""
        here = surroundings(self._model.placement)
        state = TrainingState(
            self.losses, self._named, self._optimizer.state(), self._training, here, self._scaler.state_dict()
        )
        return pack(state)

    def resume(self, data: bytes) -> list[str]:
        """Goes on from a checkpoint; says in words what is other here than where it was made.

        Raises CheckpointInvalid for what is none, or that of another model, dataset or options; then nothing changed.
        """
        with _recording():
            state = unpack(data)
            check(state, self._training, self._named)
            for name, parameter in self._named.items():
                parameter.detach().copy_(state.lora[name])
            self._optimizer.restore(state.optimizer)
        if state.scaler:
            self._scaler.load_state_dict(dict(state.scaler))
        self.losses = list(state.losses)
        return differences(state, surroundings(self._model.placement))

    def lora(self, metadata: Mapping[str, str]) -> bytes:
        """The LoRA as it is now, as a file for this and other programs."""
        return lora_file(self._model, self._options, self._lora, metadata)

    def _view(self, module: Any) -> Any:
        view = view_of(module, torch.float32 if self._options.precision == "float32" else None)
        if self._options.gradient_checkpointing:
            checkpoint_gradients(view)
        return view

    def _learn_both(self, batch: Batch) -> tuple[float, float | None]:
        """The losses of a batch and of its prior: in one pass, as diffusers has it, or one each where memory counts."""
        if batch.prior is None:
            return self._learn(batch, [1.0])[0], None
        weight = self._options.prior_loss_weight
        together = None if self._options.gradient_checkpointing else batch.with_prior()
        if together is None:
            return self._learn(batch, [1.0])[0], self._learn(batch.prior, [weight])[0]
        own, prior = self._learn(together, [1.0, weight])
        return own, prior

    def _learn(self, batch: Batch, weights: Sequence[float]) -> list[float]:
        """Adds the gradient of a pass to what is there; the losses of its equal parts, before they are weighted."""
        device = self._model.placement.device
        question = self._objective.ask(batch.latents.to(device), batch.keys)
        with torch.autocast(**self._autocast, enabled=self._autocast["dtype"] != torch.float32):
            answer = self._answer(question.sample, question.times, batch)
        losses = self._objective.losses(question, answer).chunk(len(weights))
        means = [one.mean() for one in losses]
        whole = torch.stack([mean * weight for mean, weight in zip(means, weights, strict=True)]).sum()
        torch.autograd.backward(self._scaler.scale(whole / self._options.gradient_accumulation))
        return [mean.item() for mean in means]

    def _answer(self, sample: torch.Tensor, times: torch.Tensor, batch: Batch) -> torch.Tensor:
        said, added = self._conditioning(batch), None
        if said.pooled is not None and batch.sizes is not None:
            added = {"text_embeds": said.pooled.to(sample), "time_ids": batch.sizes.to(sample)}
        states = said.states.to(sample)
        answer: torch.Tensor = self._views["unet"](sample, times, states, added_cond_kwargs=added, return_dict=False)[0]
        return answer

    def _conditioning(self, batch: Batch) -> Conditioning:
        if self._options.text_encoder:
            return encode_captions(self._model, batch.captions, self._views)
        assert batch.conditioning is not None
        return batch.conditioning

    def _change(self) -> float | None:
        """The norm of the gradient, as reported."""
        self._scaler.unscale_(self._optimizer.inner)
        most = self._options.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self._named.values(), most))
        overflowed = not math.isfinite(norm)
        if overflowed and (not self._scaler.is_enabled() or self._scaler.get_scale() <= 1):
            raise TrainingDiverged(f"step {self.step + 1}: the norm of the gradient is {norm}")
        self._scaler.step(self._optimizer.inner)  # which passes over a step that overflowed
        self._scaler.update()  # and has the next one scaled by less
        return None if overflowed else norm


def check_trainable(model: LoadedModel) -> None:
    """Raises ModelIncompatible and TrainingUnavailable, as a Trainer does."""
    name = model.entry.name
    if model.family.name not in TRAINABLE:
        raise ModelIncompatible(
            f"{name} is of the family {model.family.name}; LoRAs are trained for {', '.join(TRAINABLE)}",
            hint="train on another model",
        )
    if model.entry.base is not None:
        raise ModelIncompatible(
            f"{name} is {model.entry.base} with LoRAs of its own",
            hint=f"train on {model.entry.base}: what is made fits both",
        )
    if model.components["unet"].config.in_channels != PLAIN:
        raise ModelIncompatible(
            f"{name} is an inpainting model, which is not trained here", hint="train on the model that it is made from"
        )
    if model.placement.memory in OFFLOAD_MODES:
        raise TrainingUnavailable(
            f"training needs the weights on the device, the worker runs in memory mode {model.placement.memory}",
            hint="start the worker with --memory full, vae_tiling or attention_slicing",
        )


def is_trainable(model: LoadedModel) -> bool:
    """Whether this worker can train it."""
    try:
        check_trainable(model)
    except (ModelIncompatible, TrainingUnavailable):
        return False
    return True


@contextmanager
def _recording() -> Iterator[None]:
    """Gradients are recorded, whatever the mode of the thread."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


def _digest_of(model: LoadedModel) -> str:
    """Of its files, and of what it is told to predict, which the catalogue may change."""
    about = [model.family.name, dict(model.digests), model.components["scheduler"].config.prediction_type]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
