"""What every kind of job has: whose it is, when and where it runs, and how a kind answers for its own fields."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from darkroom.tasks.catalogue import Catalogue, ModelName, ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import Metadata, Moment, Tenant, User
from darkroom.tasks.references import (
    ReferenceFault,
    check_archive_reference,
    check_file_reference,
    check_reference,
    is_file_key,
)
from darkroom.tasks.requests.checked import Checked

Lane = Literal["interactive", "bulk"]
Batching = Literal["auto", "solo"]

LEAST_MEGAPIXELS = 0.01  # of the cost of what has no size, or a tiny one

KEPT = object()  # the context in which requests of records are validated

#: The faults that one rule finds. It reads the request only when it is asked for them.
Rule = Iterator[Fault]


class Unread(Exception):
    """A rule looked at a field that is at fault itself."""


def told(rules: Iterable[Rule]) -> Iterator[Fault]:
    """What the rules find, but for those that cannot be judged: they look at a field that is at fault itself."""
    for rule in rules:
        with suppress(Unread):
            yield from rule


class JobRequest(Checked):
    """What is asked of a job, whatever its kind.

    A kind is a class of its own over the parts that it has (`darkroom.tasks.requests.parts`). Each part answers for its
    own fields with the methods below, and asks the next one by `super()`.
    """

    #: What the fields of this part are about: the heading over them in help. A kind's own are told of by its name.
    about: ClassVar[str] = "every job"

    #: Whether a command of its own submits it, so that `darkroom submit` has no options for its fields.
    own_command: ClassVar[bool] = False

    #: Fields that name an input: a storage key that the tenant may read, a data: URL, or an https: URL. Or they hold
    #: parts that do, by `inputs` of their own.
    inputs: ClassVar[tuple[str, ...]] = ()
    #: Those of them that are latents (a .safetensors file's key): `also`, beside pictures, or `only`.
    latents: ClassVar[Mapping[str, Literal["also", "only"]]] = {}
    #: Those of them that are embeddings (a .safetensors file's key).
    embeddings: ClassVar[tuple[str, ...]] = ()
    #: Those of them that are data sets (a .zip file's key, or a prefix of keys).
    archives: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """A kind has the inputs of all of its parts."""
        named = (name for part in cls.__mro__ for name in part.__dict__.get("inputs", ()))
        cls.inputs = tuple(dict.fromkeys(named))

    kind: str
    model: ModelName | None = Field(default=None, description="a catalogue name; default: the model that is served")
    batching: Batching = Field(
        default="auto", description="whom its denoiser calls are stacked with; solo: nobody, the same bits on every run"
    )
    start_by: Moment | None = Field(default=None, description="not started by then, the job expires")
    finish_by: Moment | None = Field(default=None, description="not done by then, the job expires, at its next step")
    lane: Lane = Field(default="interactive", description="where it waits: interactive goes before bulk")
    priority: int = Field(default=3, ge=1, le=5, description="5 is started before 1, among jobs of the same user")
    tenant: Tenant = Field(default="default", description="whose job it is")
    user: User | None = Field(
        default=None, description="whose it is among the tenant's own users, in words of yours: they take turns"
    )
    idempotency_key: str | None = Field(
        default=None, min_length=1, max_length=200, description="the same key makes no second job"
    )
    metadata: Metadata = Field(default_factory=dict, description="your own data, returned untouched")

    @property
    def pieces(self) -> int:
        """How many things the job makes, each by itself: pictures, say."""
        return 1

    @property
    def references(self) -> dict[str, str]:
        """The inputs that are named, by their places: `image`, or `styles.0.image`."""
        return {place: found for name in self.inputs for place, found in references_in(name, getattr(self, name))}

    @property
    def all_seeds(self) -> list[int]:
        """One per piece, once the request is resolved; none where nothing is drawn by lot."""
        return []

    @property
    def title(self) -> str:
        """What people know the job by, in lists: its prompt, or what it begins with."""
        return ", ".join(self.references.values())

    @property
    def wishes(self) -> tuple[str, ...]:
        """What its owner may wish of it while it runs (`darkroom.tasks.wishes`)."""
        return ()

    def seed_of(self, _piece: int) -> int:
        """The seed of a piece, once the request is resolved; 0 where nothing is drawn by lot."""
        return 0

    def extent(self, _offer: ModelOffer) -> tuple[int, int]:
        """Width and height of what is made; 0 where they are the source picture's, or there is none."""
        return 0, 0

    def result_size(self, _offer: ModelOffer) -> tuple[int, int]:
        """Width and height of the pictures that are made, in pixels; 0 where nobody knows before they are."""
        return 0, 0

    def cost(self, offer: ModelOffer) -> float:
        """What a filled request takes of a worker, about, in denoiser calls of one row of a megapixel: tenants are
        served by it, not by the number of their jobs.
        """
        width, height = self.result_size(offer)
        return self.pieces * max(megapixels(width, height), LEAST_MEGAPIXELS)

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """What the model does not do. Each rule is a generator of its own, and looks at as few fields as it can."""
        yield self._kind_rule(offer)

    def rules_beside(self, _offer: ModelOffer, _catalogue: Catalogue) -> Iterator[Rule]:
        """What further models that the request names do not do, where `_offer` is its own model's."""
        yield from ()

    def idle(self, _offer: ModelOffer) -> Iterator[Rule]:
        """What would have no say. Refused of callers alone: records and manifests of before may have it."""
        yield from ()

    def warnings(self, _offer: ModelOffer) -> Iterator[str]:
        """What is no fault, and may not be what was meant."""
        yield from ()

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """The values of fields that are decided at submit, so that a job means the same whoever runs it and when."""
        return {"model": offer.name}

    def plainer(self) -> dict[str, Any]:
        """Of what `filled` decides the values to do with where no worker that is there has more."""
        return {}

    if not TYPE_CHECKING:  # where it would stand for every name

        def __getattr__(self, name: str) -> Any:
            """Asked where there is no value: fields that could not be read are left out (`darkroom.tasks.validate`)."""
            if name in type(self).model_fields:
                raise Unread(name)
            return super().__getattr__(name)

    def readable(self, field: str) -> Any:
        """The value of the field; None where it is at fault itself."""
        return self.__dict__.get(field)

    def _kind_rule(self, offer: ModelOffer) -> Rule:
        if self.kind not in offer.kinds:
            yield Fault("kind", "kind_not_supported", offer.does)

    @field_validator("finish_by")
    @classmethod
    def _ends_after_its_start(cls, finish_by: datetime | None, info: ValidationInfo) -> datetime | None:
        start_by = info.data.get("start_by")
        if finish_by is not None and start_by is not None and finish_by < start_by and info.context is not KEPT:
            raise ValueError("is before start_by")
        return finish_by

    @field_validator("*")
    @classmethod
    def _leads_somewhere(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if name not in cls.inputs or info.context is KEPT or "tenant" not in info.data:
            return value  # without a tenant: it is at fault itself
        faults = list[InitErrorDetails]()
        for place, reference in references_in(name, value):
            try:
                cls._check_input(place, reference, info.data["tenant"])
            except ReferenceFault as fault:
                why = PydanticCustomError(fault.code, "{why}", {"why": str(fault)})
                within = tuple(int(part) if part.isdecimal() else part for part in place.split(".")[1:])
                faults.append(InitErrorDetails(type=why, loc=within, input=reference))
        if faults:
            raise ValidationError.from_exception_data(name, faults)
        return value

    @classmethod
    def _check_input(cls, name: str, reference: str, tenant: str) -> None:
        """Raises ReferenceFault where it leads nowhere, or to what the field does not take."""
        taken = cls.latents.get(name)
        if name in cls.archives:
            check_archive_reference(reference, tenant)
        elif name in cls.embeddings:
            check_file_reference(reference, tenant, role="embeddings")
        elif taken == "only" or (taken == "also" and is_file_key(reference)):
            check_file_reference(reference, tenant, role="latents")
        else:
            check_reference(reference, tenant)


def megapixels(width: int, height: int) -> float:
    """Of so many pixels."""
    return width * height / 1e6


def references_in(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """What a field's value names of inputs, each by its place: the value itself, or those of the parts it holds."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from references_in(f"{place}.{number}", one)
    elif isinstance(value, Checked):
        for name in value.inputs:
            yield from references_in(f"{place}.{name}", getattr(value, name))


def defaults(request: JobRequest, offer: ModelOffer, *names: str) -> dict[str, Any]:
    """The model's values of those fields that were left out."""
    return {name: getattr(offer.defaults, name) for name in names if getattr(request, name) is None}


def length_faults(field: str, text: str, offer: ModelOffer) -> Iterator[Fault]:
    """What keeps the model from taking a text for its length."""
    if len(text) > (most := offer.limits.max_prompt_chars):
        yield Fault(field, "too_long", f"{len(text)} characters, at most {most} are allowed")
