"""Words for what to make: prompts, for one text encoder or two, and how they are read."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, GetJsonSchemaHandler, ValidationInfo, field_validator
from pydantic_core import CoreSchema, PydanticCustomError

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import Prompt, Reference, Text
from darkroom.tasks.requests.base import JobRequest, Rule, defaults, length_faults
from darkroom.tasks.requests.loras import Adapted
from darkroom.tasks.tokens import least_tokens, most_tokens

Syntax = Literal["plain", "compel"]
LongPrompt = Literal["cut", "chunk"]

#: The largest text encoder of the families has 32 layers (OpenCLIP ViT-bigG); how many a model's have its worker knows.
MOST_CLIP_SKIP = 31


#: The fields that say how texts are read.
HOW_READ = ("clip_skip", "prompt_syntax", "long_prompt")
#: The fields that hold what a text encoder reads.
TEXTS = ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2")


class Worded(JobRequest):
    """Words for what to make, and how far they are followed."""

    about: ClassVar[str] = "words"
    #: The fields that hold them, in this kind.
    texts_by: ClassVar[tuple[str, ...]] = TEXTS

    prompt: Prompt | None = Field(default=None, validate_default=True, description="what to make")
    negative_prompt: Text | None = Field(
        default=None, description="what to keep out; None and the empty text differ for SDXL"
    )
    prompt_2: Prompt | None = Field(
        default=None, description="what the second text encoder of SDXL and Playground reads; default: the prompt"
    )
    negative_prompt_2: Prompt | None = Field(
        default=None, description="what the second text encoder reads to keep out; default: the negative prompt"
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=30,
        allow_inf_nan=False,
        description="how far the prompt is followed; up to 1: not at all",
    )
    clip_skip: int | None = Field(
        default=None,
        ge=1,
        le=MOST_CLIP_SKIP,
        description="last layers of the text encoders to pass over, as in diffusers; 1 is what web UIs call 2",
    )

    prompt_syntax: Syntax = Field(
        default="plain",
        description='compel: weights and blends, such as (red)1.5 or ("a cat", "a dog").blend(0.7, 0.3)',
    )
    long_prompt: LongPrompt = Field(
        default="cut",  # what a record without the field means
        description="a text of over 75 tokens is cut off, or read to its end in chunks of 75",
        json_schema_extra={"filled": "chunk, where it may be needed"},
    )

    @property
    def title(self) -> str:
        """The prompt."""
        return self.prompt or super().title

    @property
    def texts(self) -> dict[str, str]:
        """What text encoders read, by the fields."""
        named = {name: getattr(self, name) for name in self.texts_by}
        return {name: text for name, text in named.items() if text is not None}

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """Texts that are too long, and those for an encoder that the model lacks."""
        yield from super().rules(offer)
        yield from (self._text_rule(field, offer) for field in self.texts_by)

    def warnings(self, offer: ModelOffer) -> Iterator[str]:
        """`prompt_truncated`, `negative_prompt_ignored`.

        `prompt_truncated`: a prompt that is to be cut certainly has more than the text encoders read. A lower bound:
        the worker has the tokenizer, and adds the warning to the result. `negative_prompt_ignored`: without guidance it
        has no say.
        """
        yield from super().warnings(offer)
        plain = self.prompt_syntax == "plain"  # of another its marks are no tokens
        if (
            plain
            and self.long_prompt == "cut"
            and any(least_tokens(text) > offer.prompt_tokens for text in self._read(offer))
        ):
            yield "prompt_truncated"
        if not self._guided(offer) and any(text for name, text in self.texts.items() if name.startswith("negative")):
            yield "negative_prompt_ignored"

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The model's guidance; chunks for a text that may not fit into one, unless it is to be cut."""
        values = super().filled(offer) | defaults(self, offer, "guidance_scale")
        if "long_prompt" not in self.model_fields_set:
            fits = all(most_tokens(text) <= offer.prompt_tokens for text in self._read(offer))
            values["long_prompt"] = "cut" if fits else "chunk"
        return values

    def plainer(self) -> dict[str, Any]:
        """The text is cut, unless it was said what becomes of it."""
        return super().plainer() | ({} if "long_prompt" in self.model_fields_set else {"long_prompt": "cut"})

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Where no embeddings can stand for it, the prompt is required."""
        schema = handler(core)
        if not cls.embeddings:
            whole = handler.resolve_ref_schema(schema)
            whole["required"] = ["prompt", *whole.get("required", [])]
        return schema

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str | None, info: ValidationInfo) -> str | None:
        """Without embeddings there has to be a text."""
        unsaid = all(info.data.get(name, "at fault itself") is None for name in cls.embeddings)
        if prompt is None and unsaid:
            raise PydanticCustomError("missing", "field required")
        return prompt

    def _text_rule(self, field: str, offer: ModelOffer) -> Rule:
        text = getattr(self, field) or ""
        yield from length_faults(field, text, offer)
        if text and field.endswith("_2") and offer.family in ("sd", "sdxl-refiner"):
            reason = f"{offer.name} is of the family {offer.family}, which has one text encoder"
            yield Fault(field, "not_supported", reason)

    def _guided(self, offer: ModelOffer) -> bool:
        scale = offer.defaults.guidance_scale if self.guidance_scale is None else self.guidance_scale
        return scale > 1  # diffusers' rule

    def _read(self, offer: ModelOffer) -> list[str]:
        """The texts that are read: without guidance no negative ones."""
        guided = self._guided(offer)
        return [text for name, text in self.texts.items() if guided or not name.startswith("negative")]


class Embedded(JobRequest):
    """What a job of the kind `embed` made of the words, in their place."""

    about: ClassVar[str] = "words"

    inputs: ClassVar[tuple[str, ...]] = ("prompt_embeds",)
    embeddings: ClassVar[tuple[str, ...]] = ("prompt_embeds",)

    prompt_embeds: Reference | None = Field(
        default=None, description="the key of a file of embeddings, read in place of all texts; a prompt is for people"
    )


class Prompted(Adapted, Worded, Embedded):
    """Words for what to make, or their embeddings, and LoRAs."""

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """Words beside embeddings, which nobody would read."""
        yield from super().rules(offer)
        yield from (self._beside_embeds_rule(name) for name in (*TEXTS[1:], *HOW_READ))

    def _read(self, offer: ModelOffer) -> list[str]:
        """Nothing, where there are embeddings."""
        return [] if self.prompt_embeds is not None else super()._read(offer)

    def _beside_embeds_rule(self, name: str) -> Rule:
        if self.prompt_embeds is not None and getattr(self, name) != type(self).model_fields[name].default:
            reason = "prompt_embeds have been encoded: what is read, and how, was said to the job that made them"
            yield Fault(name, "not_supported", reason)
