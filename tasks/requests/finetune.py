"""Fine-tuning: a LoRA from some twenty pictures."""

import secrets
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from darkroom.tasks.adapters import AdapterName, OwnOffer, ranks_over
from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import MAX_SEED, Listed, Prompt, Reference, Seed, one_or_several
from darkroom.tasks.requests.base import Rule, length_faults, megapixels
from darkroom.tasks.requests.prior import Preserving
from darkroom.tasks.requests.samples import MOST_PROMPTS, MOST_SAMPLES, SamplePlan, usual_every
from darkroom.tasks.sizes import side_faults, square_faults
from darkroom.tasks.training import (
    MOST_TRAIN_STEPS,
    BatchSize,
    LearningRate,
    Rank,
    Recipe,
    SnrGamma,
    Targets,
    TrainSteps,
)

PASSES = 3  # of a picture of a step, in forward ones: back takes about twice as long
REHEARSED = 6  # steps of a dry run
LEAST_PRODIGY, PRODIGY = 0.1, 1.0  # with a learning rate below it Prodigy learns next to nothing


class Finetune(Preserving):
    """Train a LoRA on pictures with captions: a file of the role `lora`, which later jobs of the tenant may name.

    The learning rate goes by the step, noise and order by seed and step: a training that another worker goes on with
    is the one that was begun.
    """

    kind: Literal["finetune"] = "finetune"
    about: ClassVar[str] = "fine-tuning"
    own_command: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ("dataset",)
    archives: ClassVar[tuple[str, ...]] = ("dataset",)

    lane: Literal["training"] = Field(default="training", description="where it waits: trainings have their own")  # type: ignore[assignment]
    dataset: Reference = Field(
        description="key of a .zip of pictures, each with a .txt of its caption, or metadata.jsonl; or a prefix/"
    )
    name: AdapterName = Field(description="what the LoRA is called: `loras` of the tenant's later jobs take it")
    overwrite: bool = Field(default=False, description="a new version, where the tenant has one of this name")
    caption: Prompt | None = Field(default=None, description="of every picture that has none of its own")
    trigger: Prompt | None = Field(default=None, description="a word that begins captions which lack it")
    num_train_steps: TrainSteps | None = Field(
        default=None, description="changes of the LoRA's weights; default: the model's"
    )
    rank: Rank | None = Field(default=None, description="of the LoRA: how much it can hold; default: the model's")
    alpha: float | None = Field(
        default=None, gt=0, le=1024, allow_inf_nan=False, description="its weight, over the rank; default: the rank"
    )
    learning_rate: LearningRate | None = Field(default=None, description="of the first full step; default: the model's")
    lr_schedule: Literal["constant", "cosine"] = Field(default="cosine", description="how the learning rate goes on")
    optimizer: Literal["adamw", "adamw8bit", "prodigy"] = Field(
        default="adamw", description="what changes the weights; prodigy wants a learning rate of 1"
    )
    warmup_steps: int = Field(
        default=0, ge=0, le=MOST_TRAIN_STEPS, description="in which the learning rate grows from 0"
    )
    batch_size: BatchSize | None = Field(default=None, description="pictures of one model call; default: the model's")
    gradient_accumulation: int = Field(default=1, ge=1, le=64, description="model calls of one step")
    resolution: int | None = Field(
        default=None, ge=64, le=2048, multiple_of=8, description="side of a square; others have its area"
    )
    targets: Targets | None = Field(default=None, description="layers that are changed; default: the model's")
    text_encoder: bool | None = Field(default=None, description="changes text encoders, too; default: the model's")
    min_snr_gamma: SnrGamma | None = Field(
        default=None, description="limits the weight of steps of little noise; 0: does not; default: the model's"
    )
    noise_offset: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False, description="learns dark and bright")
    caption_dropout: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False, description="steps without caption")
    flip: bool = Field(default=False, description="mirrors half of the pictures")
    precision: Literal["model", "float32"] = Field(
        default="model", description="of the frozen weights; float32 takes a copy of them"
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory, more time")
    seed: Seed | None = Field(default=None, description="of first weights, order, noise")
    checkpoint_every: int = Field(
        default=100, ge=1, le=MOST_TRAIN_STEPS, description="steps, of which no more are lost"
    )
    sample_prompts: Annotated[list[Prompt], Listed, one_or_several()] = Field(
        default=[], max_length=MOST_PROMPTS, description="a picture to make on the way, with the LoRA as it is then"
    )
    sample_every: int | None = Field(
        default=None, ge=1, le=MOST_TRAIN_STEPS, description="steps between samples; default: a tenth of all"
    )

    dry_run: bool = Field(default=False, description="checks all, measures a few steps, and trains nothing")

    @property
    def all_seeds(self) -> list[int]:
        """That of the training."""
        return [] if self.seed is None else [self.seed]

    @property
    def title(self) -> str:
        """The LoRA's name."""
        return self.name

    @property
    def wishes(self) -> tuple[str, ...]:
        """A file of the LoRA as it is, and samples of it where there are prompts; a dry run has neither."""
        return () if self.dry_run else ("save", *(("sample",) if self.sample_prompts else ()))

    @property
    def sample_plan(self) -> SamplePlan:
        """Of a resolved request: which samples are made when."""
        return self._plan(self.recipe.num_train_steps, self.seed or 0)

    def seed_of(self, _piece: int) -> int:
        """That of the training."""
        return self.seed or 0

    def cost(self, offer: ModelOffer) -> float:
        """Of all pictures of all steps, forward and back, and of those that are made on the way."""
        side, recipe = self.resolution or offer.defaults.width, self.recipe
        steps = REHEARSED if self.dry_run else recipe.num_train_steps
        learned = PASSES * steps * recipe.batch_size * self.gradient_accumulation
        made = 0 if self.dry_run else self.sample_plan.count
        if self.class_prompts:
            learned, made = 2 * learned, made + (self.num_class_images or 0)
        return (learned + 2 * made * offer.defaults.num_inference_steps) * megapixels(side, side)

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """More than the model allows."""
        yield from super().rules(offer)
        yield self._resolution_rule(offer)
        yield self._class_size_rule(offer)
        yield self._warmup_rule(offer)
        yield self._samples_rule(offer)
        yield self._sample_size_rule(offer)
        yield self._sample_prompts_rule(offer)
        yield self._sample_rounds_rule(offer)

    def idle(self, offer: ModelOffer) -> Iterator[Rule]:
        """What is said of samples that are not made."""
        yield from super().idle(offer)
        yield self._idle_samples_rule()

    def warnings(self, offer: ModelOffer) -> Iterator[str]:
        """`prodigy_rate`: it finds the rate itself, and multiplies it with this one. `lora_hidden`: a bare name is the
        tenant's own before the catalogue's.
        """
        yield from super().warnings(offer)
        if self.optimizer == "prodigy" and self.learning_rate and self.learning_rate < LEAST_PRODIGY:
            yield "prodigy_rate"
        if any(lora.name == self.name and not isinstance(lora, OwnOffer) for lora in offer.loras):
            yield "lora_hidden"

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """What the model's recipe says, the size of its own pictures, a seed, and when samples are made, if any are."""
        seed = secrets.randbelow(MAX_SEED + 1) if self.seed is None else self.seed
        recipe = offer.training.model_dump() | ({"learning_rate": PRODIGY} if self.optimizer == "prodigy" else {})
        missing = {name: value for name, value in recipe.items() if getattr(self, name) is None}
        return {
            **missing,
            **super().filled(offer),
            "seed": seed,
            "resolution": self.resolution or offer.defaults.width,
            **({"sample_every": self._plan(self._steps(offer)).every} if self.sample_prompts else {}),
        }

    @property
    def recipe(self) -> Recipe:
        """What a resolved request says under a recipe's names."""
        return Recipe.model_construct(**{name: getattr(self, name) for name in Recipe.model_fields})

    def _plan(self, steps: int, seed: int = 0) -> SamplePlan:
        return SamplePlan(tuple(self.sample_prompts), self.sample_every or usual_every(steps), steps, seed)

    def _steps(self, offer: ModelOffer) -> int:
        return self.num_train_steps or offer.training.num_train_steps

    def _resolution_rule(self, offer: ModelOffer) -> Rule:
        if self.resolution is not None:
            yield from side_faults("resolution", self.resolution, offer)

    def _class_size_rule(self, offer: ModelOffer) -> Rule:
        yield from self.class_size_faults(self.resolution or offer.defaults.width, offer)

    def _samples_rule(self, offer: ModelOffer) -> Rule:
        if not self.sample_prompts:
            return
        if "txt2img" not in offer.kinds:
            yield Fault("sample_prompts", "not_supported", f"{offer.name} makes no pictures of prompts")
        if reason := ranks_over(
            [(self.name, self.rank or offer.training.rank)], offer.name, offer.limits.max_lora_rank
        ):
            yield Fault("sample_prompts", "lora_rank_too_large", reason)

    def _sample_size_rule(self, offer: ModelOffer) -> Rule:
        side = self.resolution or offer.defaults.width
        if self.sample_prompts:
            yield from square_faults("sample_prompts", side, offer)

    def _sample_prompts_rule(self, offer: ModelOffer) -> Rule:
        for number, prompt in enumerate(self.sample_prompts):
            yield from length_faults(f"sample_prompts.{number}", prompt, offer)

    def _sample_rounds_rule(self, offer: ModelOffer) -> Rule:
        if not self.sample_prompts:
            return
        plan = self._plan(steps := self._steps(offer))
        if plan.every > steps:
            reason = f"is more than all {steps} steps; {steps} makes samples of the first and last alone"
            yield Fault("sample_every", "too_large", reason)
        elif plan.count > MOST_SAMPLES:
            reason = f"makes {plan.count} samples, and a training makes {MOST_SAMPLES} at most"
            yield Fault("sample_every", "too_small", reason)

    def _idle_samples_rule(self) -> Rule:
        if self.sample_every is not None and not self.sample_prompts:
            yield Fault("sample_every", "no_sample_prompts", "there are no sample_prompts to make samples of")

    def _warmup_rule(self, offer: ModelOffer) -> Rule:
        if self.warmup_steps >= (steps := self._steps(offer)):
            yield Fault("warmup_steps", "too_large", f"is as long as the whole training of {steps} steps")
