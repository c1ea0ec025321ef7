"""LoRAs: small sets of weights over the model's, which each image has for itself."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from darkroom.tasks.adapters import (
    MOST_LORAS,
    MOST_SCALE,
    AdapterName,
    LoraOffer,
    OwnOffer,
    Scale,
    Sha256,
    UnreadableLora,
    ranks_over,
)
from darkroom.tasks.catalogue import Catalogue, ModelEntry, ModelOffer, builtin_contents
from darkroom.tasks.errors import Fault
from darkroom.tasks.families import NAME
from darkroom.tasks.fields import Listed, no_number, one_or_several
from darkroom.tasks.misspelt import did_you_mean
from darkroom.tasks.needs import LaterField
from darkroom.tasks.requests.base import JobRequest, Rule
from darkroom.tasks.requests.checked import Checked

_NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", re.IGNORECASE)
_NAME = re.compile(NAME)
_PATH = re.compile(r"[/\\]|\.safetensors$")


class Lora(Checked):
    """One LoRA, and how much of it."""

    model_config = ConfigDict(revalidate_instances="always")

    name: AdapterName = Field(description="the tenant's own, else as the workers of the model offer it")
    scale: Scale = Field(default=1.0, description="how much of it: 1 all, 0 nothing, below 0 away from it")
    sha256: Sha256 | None = Field(default=None, description="of its file; left out, of the one on offer")
    own: Annotated[bool, LaterField("lora:own")] = Field(
        default=False,
        description="the tenant's own and no other; left out, the name tells",
        exclude_if=lambda own: not own,  # readers of before refuse a field that they do not know
    )

    @field_validator("name", mode="before")
    @classmethod
    def _is_no_path(cls, name: object) -> object:
        if isinstance(name, str) and _PATH.search(name):
            raise PydanticCustomError(
                "not_a_name", "is a path: LoRAs go by the names of the catalogue (`darkroom loras list`)"
            )
        if isinstance(name, str) and not _NAME.fullmatch(name) and _NAME.fullmatch(name.lower()):
            raise PydanticCustomError(
                "string_pattern_mismatch",
                "has capital letters, and names have small ones (did you mean {near}?)",
                {"near": name.lower()},
            )
        return name

    @field_validator("scale", mode="before")
    @classmethod
    def _is_no_text(cls, scale: object) -> object:
        if isinstance(scale, str):
            raise no_number(scale, f"from -{MOST_SCALE:g} to {MOST_SCALE:g}")
        return scale


def _from_text(value: object, info: ValidationInfo) -> object:
    """`NAME` or `NAME:SCALE`, as Python's callers and those at a terminal may write it."""
    if not isinstance(value, str) or info.mode != "python":
        return value
    name, colon, scale = value.rpartition(":")
    if not colon:
        return {"name": value}
    try:
        return {"name": name, "scale": float(scale) if _NUMBER.fullmatch(scale) else scale}
    except ValueError:  # such as 1.2.3: the type check that follows names the fault
        return {"name": name, "scale": scale}


class Adapted(JobRequest):
    """LoRAs over the job's own model; a further one (`refiner`, `hires`) has none of them."""

    about: ClassVar[str] = "LoRAs"

    loras: Annotated[list[Annotated[Lora, BeforeValidator(_from_text)]], Listed, one_or_several(Lora)] = Field(
        default=[], max_length=MOST_LORAS, description="a LoRA to paint with"
    )

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """Another file than the one on offer, one that is on anyway, and more in all than the model takes."""
        yield from super().rules(offer)
        yield self._lora_file_rule(offer)
        yield self._lora_rank_rule(offer)

    def rules_beside(self, offer: ModelOffer, catalogue: Catalogue) -> Iterator[Rule]:
        """LoRAs that the model's workers do not have."""
        yield from super().rules_beside(offer, catalogue)
        yield self._loras_there_rule(offer, catalogue)

    def warnings(self, offer: ModelOffer) -> Iterator[str]:
        """`lora_text_ignored`: embeddings were encoded before; what it changes of text encoders has no say."""
        yield from super().warnings(offer)
        if getattr(self, "prompt_embeds", None) is not None and any(found.text for _, _, found in self.offered(offer)):
            yield "lora_text_ignored"

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """Whose they are, and the digests of the files: a job means the same when another one has come by the name."""
        values = super().filled(offer)
        if not self.loras:
            return values
        meant = {number: _told_apart(found) for number, _, found in self.offered(offer)}
        return values | {
            "loras": [lora.model_copy(update=meant.get(number, {})) for number, lora in enumerate(self.loras)]
        }

    @field_validator("loras")
    @classmethod
    def _each_name_once(cls, loras: list[Lora]) -> list[Lora]:
        names = [lora.name for lora in loras]
        twice = [number for number, name in enumerate(names) if name in names[:number]]
        if twice:
            kind = PydanticCustomError("lora_twice", "is there twice: give it one scale")
            found = [InitErrorDetails(type=kind, loc=(number, "name"), input=names[number]) for number in twice]
            raise ValidationError.from_exception_data("loras", found)
        return loras

    def offered(self, offer: ModelOffer) -> list[tuple[int, Lora, LoraOffer]]:
        """Those of the request that there are, each with its number and what is on offer."""
        found = ((number, lora, lora_of(lora, offer)) for number, lora in enumerate(self.loras))
        return [(number, lora, there) for number, lora, there in found if there]

    def _lora_file_rule(self, offer: ModelOffer) -> Rule:
        own = {use.name for use in offer.own_loras}
        for number, lora, there in self.offered(offer):
            own_file = isinstance(there, OwnOffer)
            if lora.name in own and not own_file:
                yield Fault(f"loras.{number}.name", "lora_twice", f"is on in every picture of {offer.name} already")
            elif lora.sha256 not in (None, there.sha256):
                whose = "the tenant has" if own_file else f"the workers of {offer.name} have"
                reason = f"{whose} another file of this name, {there.sha256}"
                yield Fault(f"loras.{number}.sha256", "adapter_missing", reason)

    def _lora_rank_rule(self, offer: ModelOffer) -> Rule:
        own = [found for use in offer.own_loras if (found := _in_catalogue(use.name, offer))]
        ranks = [(found.name, found.rank) for found in (*own, *(there for _, _, there in self.offered(offer)))]
        if self.loras and (reason := ranks_over(ranks, offer.name, offer.limits.max_lora_rank)):
            yield Fault("loras", "lora_rank_too_large", reason)

    def _loras_there_rule(self, offer: ModelOffer, catalogue: Catalogue) -> Rule:
        for number, lora in enumerate(self.loras):
            if lora_of(lora, offer) is None:
                code, reason = _why_not_own(lora, offer) or _why_not(lora.name, offer, catalogue)
                yield Fault(f"loras.{number}.name", code, reason)


def lora_of(lora: Lora, offer: ModelOffer) -> LoraOffer | None:
    """The LoRA that a request means, of those that there are for its model; None where it means none.

    A name is the tenant's own, else the catalogue's; with a digest it is the one of the two that has it. Here it is
    decided, and nowhere else.
    """
    named = [_own(lora.name, offer), None if lora.own else _in_catalogue(lora.name, offer)]
    there = [one for one in named if one]
    found = next((one for one in there if one.sha256 == lora.sha256), there[0] if there else None)
    return found if found and not _misfit(found, offer) else None


def _own(name: str, offer: ModelOffer) -> LoraOffer | None:
    """The tenant's own, whatever it is for (`darkroom.tasks.own_loras.seen_by`)."""
    return next((one for one in offer.loras if one.name == name and isinstance(one, OwnOffer | UnreadableLora)), None)


def _in_catalogue(name: str, offer: ModelOffer) -> LoraOffer | None:
    there = (one for one in offer.loras if not isinstance(one, OwnOffer | UnreadableLora))
    return next((one for one in there if one.name == name), None)


def _misfit(found: LoraOffer, offer: ModelOffer) -> bool:
    """Those of the catalogue are on offer for models that they fit alone."""
    return isinstance(found, UnreadableLora) or (isinstance(found, OwnOffer) and found.family != offer.family)


def _told_apart(found: LoraOffer) -> dict[str, Any]:
    """What a request says of the LoRA that it means."""
    return {"sha256": found.sha256, "own": isinstance(found, OwnOffer)}


def _why_not_own(lora: Lora, offer: ModelOffer) -> tuple[str, str] | None:
    """As `_why_not`, where it is about the tenant's own."""
    found = _own(lora.name, offer)
    if isinstance(found, UnreadableLora):
        reason = f"what Redis has of the tenant's LoRA {lora.name!r} cannot be read: `darkroom loras restore` mends it"
        return "lora_unreadable", reason
    if isinstance(found, OwnOffer):
        reason = f"the tenant's own is for the family {found.family}, and {offer.name} is of {offer.family}"
        return "lora_not_for_model", reason
    return ("unknown_lora", f"the tenant has no LoRA {lora.name!r} of its own") if lora.own else None


def _why_not(name: str, offer: ModelOffer, catalogue: Catalogue) -> tuple[str, str]:
    """A code, and words for what is known of a LoRA that the model's workers do not have."""
    having = [other for other in catalogue.values() if _in_catalogue(name, other)]
    if having:
        families = sorted({other.family for other in having})
        models = ", ".join(sorted(other.name for other in having))
        reason = f"is on offer for {models}, of the family {' and '.join(families)}; {offer.name} is of {offer.family}"
        if offer.family in families:
            reason = f"is on offer for {models}, not for {offer.name}"
        return "lora_not_for_model", reason
    known = builtin_contents().loras.get(name)
    pull = f"; on a worker's machine `darkroom loras pull {name}` fetches it" if known else ""
    if known and (why := known.misfit(offer.name, offer.family, offer.base)):
        return "lora_not_for_model", why
    if isinstance(offer, ModelEntry):  # as the catalogue has it, since no worker has published one
        return "unknown_lora", f"no worker of {offer.name} has been up yet, so nobody knows which LoRAs it has{pull}"
    there = ", ".join(sorted(lora.name for lora in offer.loras)) or "none"
    near = did_you_mean(name, [lora.name for lora in offer.loras])
    return "unknown_lora", f"the workers of {offer.name} have no LoRA {name!r}{near}; there are: {there}{pull}"
