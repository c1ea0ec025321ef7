"""A training on a worker that makes pictures, too: each step is work that may wait."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from darkroom.worker.batching.engine import Engine
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.training.batch import Batch
from darkroom.worker.training.buckets import Size
from darkroom.worker.training.conditioning import encode_captions
from darkroom.worker.training.dataset import Dataset
from darkroom.worker.training.examples import Examples, sizes_of
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.plan import Plan, prior_seed
from darkroom.worker.training.taken import Taken, take
from darkroom.worker.training.trainer import StepReport, Trainer


class Session:
    """One training of a loaded model; for one thread that makes no pictures."""

    def __init__(
        self,
        model: LoadedModel,
        engine: Engine,
        latents: Callable[[Image.Image], torch.Tensor],
        options: TrainingOptions,
        dataset: Dataset,
        *,
        resolution: int,
        prior: Dataset | None = None,
        **drawn: Any,
    ) -> None:
        """`drawn`: what else the plan is told of flips and captions. `latents` of a picture, on any thread.

        `prior`: what to keep of what the model knew; it is never without its captions. Raises what Trainer raises.
        """
        self._engine, self.steps, self._device = engine, options.steps, model.placement.device
        encode = None if options.text_encoder else lambda captions: engine.spare(encode_captions, model, captions)

        def examples(found: Dataset, seed: int, **drawn: Any) -> Examples:
            buckets = sizes_of(found, resolution, _grid(model))
            plan = Plan(buckets, options.batch_size, options.gradient_accumulation, seed, **drawn)
            return Examples(found, plan, latents, encode, sized=model.family.name != "sd")

        self._examples = examples(dataset, options.seed, **drawn)
        beside = {**drawn, "caption_dropout": 0.0}
        self._prior = examples(prior, prior_seed(options.seed), **beside) if prior else None
        self._passes, self._ready = range(options.gradient_accumulation), list[Batch]()  # of the step to come
        digest = f"{dataset.digest} {resolution} {sorted(drawn.items())}{f' {prior.digest}' if prior else ''}"
        self._trainer = engine.spare(Trainer, model, options, lambda _step, micro: self._ready[micro], digest)

    @property
    def step(self) -> int:
        """How many are done."""
        return self._trainer.step

    @property
    def losses(self) -> Sequence[float]:
        """Of the steps that are done."""
        return self._trainer.losses

    def advance(self) -> StepReport:
        """One step more, between pictures. Raises TrainingDiverged, and what encoding an example raises."""
        self._ready = [self._batch(micro) for micro in self._passes]  # not on the engine's thread
        return self._engine.spare(self._trainer.advance)

    def _batch(self, micro: int) -> Batch:
        batch = self._examples(self.step, micro)
        return replace(batch, prior=self._prior(self.step, micro)) if self._prior else batch

    @property
    def sizes(self) -> Sequence[Size]:
        """Width and height that each picture is trained in, in pixels."""
        return self._examples.sizes

    def rehearse(self) -> Taken:
        """What a step of the largest pictures takes, without waits for others. It changes the weights as any does.

        Raises as `advance`.
        """
        largest = self._examples.largest()
        batch = replace(largest, prior=self._prior.largest()) if self._prior else largest
        self._ready = [batch for _ in self._passes]
        return self._engine.spare(take, self._device, self._trainer.advance)

    def checkpoint(self) -> bytes:
        """All that is needed to go on."""
        return self._engine.call(self._trainer.checkpoint)

    def resume(self, data: bytes) -> list[str]:
        """Goes on from there; says in words what is other here. Raises CheckpointInvalid."""
        return self._engine.call(self._trainer.resume, data)

    def lora(self, **metadata: str) -> bytes:
        """The file as it is now."""
        return self._engine.call(self._trainer.lora, metadata)


def _grid(model: LoadedModel) -> int:
    """Sides of 64 pixels are what sd-scripts has; a small model's pictures have no more than some of them."""
    return max(model.entry.limits.grid, 64 if model.entry.defaults.width >= 512 else 8)
