"""Fine-tuning: a LoRA from some twenty pictures."""

import secrets
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from darkroom.tasks.adapters import MOST_RANK, AdapterName, ranks_over
from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import MAX_SEED, Listed, Prompt, Reference, Seed, one_or_several
from darkroom.tasks.requests.base import Rule
from darkroom.tasks.requests.prior import Preserving
from darkroom.tasks.requests.samples import MOST_PROMPTS, MOST_SAMPLES, SamplePlan, usual_every
from darkroom.tasks.sizes import side_faults

MOST_STEPS = 20_000
LEAST_PRODIGY = 0.1  # with a learning rate below it Prodigy learns next to nothing


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
    num_train_steps: int = Field(default=500, ge=1, le=MOST_STEPS, description="changes of the LoRA's weights")
    rank: int = Field(default=16, ge=1, le=MOST_RANK, description="of the LoRA: how much it can hold")
    alpha: float | None = Field(
        default=None, gt=0, le=1024, allow_inf_nan=False, description="its weight, over the rank; default: the rank"
    )
    learning_rate: float = Field(default=1e-4, gt=0, le=1, allow_inf_nan=False, description="of the first full step")
    lr_schedule: Literal["constant", "cosine"] = Field(default="cosine", description="how the learning rate goes on")
    optimizer: Literal["adamw", "adamw8bit", "prodigy"] = Field(
        default="adamw", description="what changes the weights; prodigy wants a learning rate of 1"
    )
    warmup_steps: int = Field(default=0, ge=0, le=MOST_STEPS, description="in which the learning rate grows from 0")
    batch_size: int = Field(default=1, ge=1, le=64, description="pictures of one model call")
    gradient_accumulation: int = Field(default=1, ge=1, le=64, description="model calls of one step")
    resolution: int | None = Field(
        default=None, ge=64, le=2048, multiple_of=8, description="side of a square; others have its area"
    )
    targets: Literal["attention", "all"] = Field(default="attention", description="layers that are changed")
    text_encoder: bool = Field(default=False, description="changes text encoders, too")
    min_snr_gamma: float | None = Field(
        default=5.0, gt=0, le=100, allow_inf_nan=False, description="limits the weight of steps of little noise"
    )
    noise_offset: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False, description="learns dark and bright")
    caption_dropout: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False, description="steps without caption")
    flip: bool = Field(default=False, description="mirrors half of the pictures")
    precision: Literal["model", "float32"] = Field(
        default="model", description="of the frozen weights; float32 takes a copy of them"
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory, more time")
    seed: Seed | None = Field(default=None, description="of first weights, order, noise")
    checkpoint_every: int = Field(default=100, ge=1, le=MOST_STEPS, description="steps, of which no more are lost")
    sample_prompts: Annotated[list[Prompt], Listed, one_or_several()] = Field(
        default=[], max_length=MOST_PROMPTS, description="a picture to make on the way, with the LoRA as it is then"
    )
    sample_every: int | None = Field(
        default=None, ge=1, le=MOST_STEPS, description="steps between samples; default: a tenth of all"
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
        """Which samples are made when."""
        steps = self.num_train_steps
        return SamplePlan(tuple(self.sample_prompts), self.sample_every or usual_every(steps), steps, self.seed or 0)

    def seed_of(self, _piece: int) -> int:
        """That of the training."""
        return self.seed or 0

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """More than the model allows."""
        yield from super().rules(offer)
        yield self._resolution_rule(offer)
        yield self._class_size_rule(offer)
        yield self._samples_rule(offer)
        yield self._sample_size_rule(offer)
        yield self._sample_prompts_rule(offer)

    def warnings(self, offer: ModelOffer) -> Iterator[str]:
        """`prodigy_rate`: it finds the rate itself, and multiplies it with this one."""
        yield from super().warnings(offer)
        if self.optimizer == "prodigy" and self.learning_rate < LEAST_PRODIGY:
            yield "prodigy_rate"

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The size of the model's own pictures, a seed, and when samples are made, if there are any."""
        seed = secrets.randbelow(MAX_SEED + 1) if self.seed is None else self.seed
        every = {"sample_every": self.sample_plan.every} if self.sample_prompts else {}
        return super().filled(offer) | {"seed": seed, "resolution": self.resolution or offer.defaults.width} | every

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
        if reason := ranks_over([(self.name, self.rank)], offer.name, offer.limits.max_lora_rank):
            yield Fault("sample_prompts", "lora_rank_too_large", reason)

    def _sample_size_rule(self, offer: ModelOffer) -> Rule:
        side, most = self.resolution or offer.defaults.width, offer.limits.max_pixels
        if self.sample_prompts and side**2 > most:
            reason = f"sample_prompts ask for {side}x{side}, over {offer.name}'s {most} pixels"
            yield Fault("resolution", "too_many_pixels", reason)

    def _sample_prompts_rule(self, offer: ModelOffer) -> Rule:
        most = offer.limits.max_prompt_chars
        for number, prompt in enumerate(self.sample_prompts):
            if len(prompt) > most:
                reason = f"{len(prompt)} characters, at most {most} are allowed"
                yield Fault(f"sample_prompts.{number}", "too_long", reason)

    @field_validator("sample_every")
    @classmethod
    def _makes_some(cls, every: int | None, info: ValidationInfo) -> int | None:
        steps, prompts = info.data.get("num_train_steps"), info.data.get("sample_prompts")
        if every is None or steps is None or prompts is None:
            return every
        if not prompts:
            raise ValueError("there are no sample_prompts to make samples of")
        if every > steps:
            raise ValueError(f"is more than all {steps} steps; {steps} makes samples of the first and last alone")
        if (count := SamplePlan(tuple(prompts), every, steps, 0).count) > MOST_SAMPLES:
            raise ValueError(f"makes {count} samples, and a training makes {MOST_SAMPLES} at most")
        return every

    @field_validator("warmup_steps")
    @classmethod
    def _ends_before_the_last(cls, steps: int, info: ValidationInfo) -> int:
        whole = info.data.get("num_train_steps")
        if whole is not None and steps >= whole:
            raise ValueError(f"is as long as the whole training of {whole} steps")
        return steps
