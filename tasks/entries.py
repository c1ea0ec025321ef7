"""What a catalogue says of a model: what it allows, its defaults, and where its weights come from."""

from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import Field, model_validator

from darkroom.tasks.adapters import MOST_LORAS, MOST_RANK, LoraOffer, LoraUse
from darkroom.tasks.families import NOT_OF_FAMILY, Family, Kind, ModelName
from darkroom.tasks.schedulers import MOST_STEPS, SCHEDULERS, SchedulerConfig
from darkroom.tasks.sources import BundledSource, FileSource, FolderSource, HubSource, Strict
from darkroom.tasks.training import Recipe


class Defaults(Strict):
    """What a request that leaves the field out gets; from the model's card."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    num_inference_steps: int = Field(ge=1, le=1000)
    guidance_scale: float = Field(ge=0, le=30, allow_inf_nan=False)
    scheduler: str
    strength: float = Field(default=0.6, ge=0, le=1, allow_inf_nan=False)


class Limits(Strict):
    """What the model allows; sides in pixels, `max_pixels` for width times height."""

    grid: int = Field(default=8, ge=8, multiple_of=8)
    min_side: int = Field(default=256, ge=8)
    max_side: int = Field(default=2048, le=16_384)
    max_pixels: int = Field(default=2048 * 1536, ge=64)
    max_steps: int = Field(default=200, ge=1, le=1000)
    max_images: int = Field(default=16, ge=1, le=256)
    max_prompt_chars: int = Field(default=4000, ge=1, le=10_000)
    max_frames: int = Field(default=64, ge=2, le=256)
    max_lora_rank: int = Field(default=MOST_RANK, ge=1, le=MOST_RANK, description="of all LoRAs of an image together")


class ModelOffer(Strict):
    """What a producer must know of a model to ask for it; workers publish this much.

    A model with a `base` is that one with LoRAs of its own (`own_loras`), which are on in every picture. `loras` are
    those that requests may name: a worker fills them in with what it has for the model.
    """

    name: ModelName
    family: Family
    defaults: Defaults
    limits: Limits = Limits()
    schedulers: list[str]
    kinds: list[Kind] = Field(default=[*get_args(Kind)], min_length=1)
    description: str = ""
    license: str = ""
    prompt_tokens: int = Field(default=75, ge=1, description="tokens of the prompt that the text encoders read")
    base: ModelName | None = None
    own_loras: list[LoraUse] = Field(default=[], max_length=MOST_LORAS)
    loras: list[LoraOffer] = Field(default=[])
    training: Recipe = Field(default=Recipe(), description="what `finetune` does unless told otherwise")

    @model_validator(mode="before")
    @classmethod
    def _kinds_of_the_family(cls, fields: Any) -> Any:
        """Unless told otherwise, every kind that the family does."""
        if not isinstance(fields, dict) or "kinds" in fields or str(fields.get("family")) not in NOT_OF_FAMILY:
            return fields
        never, _ = NOT_OF_FAMILY[str(fields["family"])]
        return {**fields, "kinds": [kind for kind in get_args(Kind) if kind not in never]}

    @model_validator(mode="after")
    def _family_does_them(self) -> Self:
        never, why = NOT_OF_FAMILY.get(self.family, ((), ""))
        if wrong := [kind for kind in self.kinds if kind in never]:
            raise ValueError(f"`kinds` has {', '.join(wrong)}: {why}")
        return self

    @property
    def does(self) -> str:
        """The kinds, in words for who asked for another one."""
        _, why = NOT_OF_FAMILY.get(self.family, ((), ""))
        return f"{self.name} does {', '.join(self.kinds)}{why and ': '}{why}"

    @model_validator(mode="after")
    def _schedulers_exist(self) -> Self:
        unknown = [s for s in [*self.schedulers, self.defaults.scheduler] if s not in SCHEDULERS]
        if unknown:
            raise ValueError(f"unknown schedulers {unknown}; known: {', '.join(SCHEDULERS)}")
        if self.defaults.scheduler not in self.schedulers:
            raise ValueError(f"the default scheduler {self.defaults.scheduler!r} is not among `schedulers`")
        return self

    @model_validator(mode="after")
    def _defaults_fit(self) -> Self:
        asked, limits = self.defaults, self.limits
        sides = (asked.width, asked.height)
        if any(side % limits.grid or not limits.min_side <= side <= limits.max_side for side in sides):
            raise ValueError(f"the default size {asked.width}x{asked.height} is off the grid or outside the limits")
        most = min(limits.max_steps, MOST_STEPS.get(asked.scheduler, limits.max_steps))
        if asked.width * asked.height > limits.max_pixels or asked.num_inference_steps > most:
            raise ValueError("the default size or the default steps are over the limits")
        return self


class ModelEntry(ModelOffer):
    """One model of the catalogue: the offer, where its weights come from, and what it wants of schedulers.

    Family and source of a model with a base are the base's.
    """

    source: Annotated[HubSource | FolderSource | FileSource | BundledSource, Field(discriminator="type")]
    scheduler_config: SchedulerConfig = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _no_uses_among_offers(cls, fields: Any) -> Any:
        named = fields.get("loras") if isinstance(fields, dict) else None
        if isinstance(named, list) and any(isinstance(one, dict) and "sha256" not in one for one in named):
            raise ValueError("`loras` are what a worker finds on its machine; a model's own are its `own_loras`")
        return fields

    @property
    def weights(self) -> str:
        """The name under which its files lie and are pinned: the base's, where there is one."""
        return self.base or self.name

    def offer(self) -> ModelOffer:
        """The entry without its source: paths of this machine are nobody else's business."""
        return ModelOffer.model_construct(**{name: getattr(self, name) for name in ModelOffer.model_fields})


Catalogue = Mapping[str, ModelOffer]
