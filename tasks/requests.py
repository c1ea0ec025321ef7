"""What a caller may ask for: one class per kind of job.

A field left out is filled in at submit from the model's catalogue entry (`darkroom.tasks.validate`). Faults that need
no catalogue are found here, all at once. `Txt2Img(...)`, `parse_request` and the clients raise them as InvalidRequest;
where pydantic is asked (`model_validate`, a TypeAdapter, another model, FastAPI), it raises its own ValidationError.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from darkroom.tasks.catalogue import ModelName
from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.fields import Metadata, Moment, Prompt, Reference, SchedulerName, Seed, Side, Tenant, Text
from darkroom.tasks.findings import faults_of, quotable
from darkroom.tasks.references import ReferenceFault, check_reference

Lane = Literal["interactive", "bulk"]
OutputFormat = Literal["png", "jpeg", "webp"]
Batching = Literal["auto", "solo"]

_KEPT = object()  # the context in which requests of records are validated


class _Generation(BaseModel):
    """The fields that every kind of generation has. Types are strict: `"512"` is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __init__(self, **fields: Any) -> None:
        """Raises InvalidRequest with every fault."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidRequest(faults_of(error)) from None

    # Pydantic calls an `__init__` of ours for models within models, too, unless it bears the mark of its own.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    model: ModelName | None = Field(default=None, description="a catalogue name; default: the model that is served")
    prompt: Prompt
    negative_prompt: Text | None = Field(default=None, description="None and the empty text differ for SDXL")
    width: Side | None = None
    height: Side | None = None
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0, le=30, allow_inf_nan=False)
    scheduler: SchedulerName | None = None
    seed: Seed | None = Field(default=None, description="of the first image; the next ones count up from it")
    num_images: int | None = Field(default=None, ge=1, le=256)
    seeds: list[Seed] | None = Field(default=None, min_length=1, max_length=256, description="one per image")
    output_format: OutputFormat = "png"

    batching: Batching = Field(
        default="auto", description="solo: its denoiser calls are stacked with nobody's, the same bits on every run"
    )

    start_by: Moment | None = Field(default=None, description="not started by then, the job expires")
    finish_by: Moment | None = Field(default=None, description="not done by then, the job expires, at its next step")
    lane: Lane = "interactive"
    tenant: Tenant = "default"
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=200)
    metadata: Metadata = Field(default_factory=dict, description="the caller's own, returned untouched")

    @model_validator(mode="wrap")
    @classmethod
    def _faults_can_be_quoted(cls, data: object, validate: ValidatorFunctionWrapHandler) -> Self:
        try:
            found: Self = validate(data)
            return found
        except ValidationError as error:
            raise quotable(error) from None

    @field_validator("seeds")
    @classmethod
    def _seeds_fit(cls, seeds: list[int] | None, info: ValidationInfo) -> list[int] | None:
        images = info.data.get("num_images")
        if seeds is not None and info.data.get("seed") is not None:
            raise ValueError("give seed or seeds, not both")
        if seeds is not None and images is not None and images != len(seeds):
            raise ValueError(f"{len(seeds)} seeds for {images} images; give one per image")
        return seeds

    @field_validator("finish_by")
    @classmethod
    def _ends_after_its_start(cls, finish_by: datetime | None, info: ValidationInfo) -> datetime | None:
        start_by = info.data.get("start_by")
        if finish_by is not None and start_by is not None and finish_by < start_by and info.context is not _KEPT:
            raise ValueError("is before start_by")
        return finish_by


class Txt2Img(_Generation):
    """Make pictures from a prompt."""

    kind: Literal["txt2img"] = "txt2img"


class Img2Img(_Generation):
    """Make pictures from a picture and a prompt.

    Without width and height the result has the picture's size, scaled into the model's limits.
    """

    kind: Literal["img2img"] = "img2img"
    image: Reference = Field(description="a storage key that the tenant may read, a data: URL, or an https: URL")
    strength: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="0 keeps the picture, 1 ignores it"
    )

    @field_validator("image")
    @classmethod
    def _leads_somewhere(cls, image: str, info: ValidationInfo) -> str:
        try:
            if "tenant" in info.data and info.context is not _KEPT:  # without a tenant: it is at fault itself
                check_reference(image, info.data["tenant"])
        except ReferenceFault as fault:
            raise PydanticCustomError(fault.code, "{why}", {"why": str(fault)}) from None
        return image


KINDS: dict[str, type[Txt2Img] | type[Img2Img]] = {"txt2img": Txt2Img, "img2img": Img2Img}
DEFAULT_KIND = "txt2img"


def _of_a_kind(data: object, validate: ValidatorFunctionWrapHandler) -> object:
    try:
        return validate({"kind": DEFAULT_KIND, **data} if isinstance(data, dict) else data)
    except ValidationError as error:
        raise quotable(error) from None


# Told apart by `kind`, not by trial: faults are those of the kind that was meant.
Request = Annotated[Txt2Img | Img2Img, Discriminator("kind"), WrapValidator(_of_a_kind)]


def parse_request(data: Any, *, kept: bool = False) -> Request:
    """A request from plain data (JSON, a mapping). Raises InvalidRequest with every fault.

    `kept`: of a record, which may have been taken in when less was refused; it is read all the same.
    """
    kind = data.get("kind", DEFAULT_KIND) if isinstance(data, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(KINDS)
        raise InvalidRequest([Fault("kind", "unknown_kind", f"a request is a mapping with a kind of: {known}")])
    try:
        return KINDS[kind].model_validate(dict(data), context=_KEPT if kept else None)
    except ValidationError as error:
        raise InvalidRequest(faults_of(error)) from None
