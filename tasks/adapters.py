"""LoRAs: as a catalogue names them, as a model has them of its own, as workers offer them, as tenants own them."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, Field, model_validator

from darkroom.tasks.families import Family, ModelName
from darkroom.tasks.sources import (
    SHA256,
    BundledSource,
    Strict,
    StyleFileSource,
    StyleHubSource,
    WeightsFileSource,
    WeightsHubSource,
)

MOST_LORAS = 8  # of one image, besides the model's own
MOST_SCALE = 10.0
MOST_RANK = 128  # of all LoRAs of an image together; published ones have 4 to 128
RANK_STEP = 8  # workers keep LoRAs in pages of this rank: one of rank 4 takes as much as one of 8

#: The same form as the names of models; the two are apart.
AdapterName = ModelName
Scale = Annotated[float, Field(ge=-MOST_SCALE, le=MOST_SCALE, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=SHA256)]


def ranks_over(ranks: Sequence[tuple[str, int]], model: str, most: int) -> str:
    """Why these LoRAs, by name and rank, are too much for an image of the model; empty where they are not."""
    total = sum(-(-rank // RANK_STEP) * RANK_STEP for _, rank in ranks)
    if total <= most:
        return ""
    each = ", ".join(f"{name} {rank}" for name, rank in ranks)
    return f"their ranks, in steps of {RANK_STEP}, are {total} together ({each}); {model} takes at most {most}"


class LoraUse(Strict):
    """A LoRA that is on in every picture of a model."""

    name: AdapterName
    scale: Scale = 1.0


class LoraOffer(Strict):
    """What a worker has for a model. `rank` is the largest of its layers; `text`: it changes text encoders, too."""

    name: AdapterName
    sha256: Sha256
    rank: int = Field(ge=1)
    text: bool = False
    scale: Scale = 1.0
    description: str = ""
    license: str = ""


class OwnOffer(LoraOffer):
    """One that belongs to the tenant who asks, and the family of models that it is for."""

    family: Family


class OwnLora(OwnOffer):
    """What is kept of a tenant's LoRA in Redis, and beside its file in the store (`darkroom.tasks.own_loras`).

    `bytes` of its file; `base`: the model that it was made on; `made`: when this version came; `job`: which made it,
    None for a file that was brought.
    """

    bytes: int = Field(ge=1)
    base: ModelName | None = None
    made: AwareDatetime
    job: str | None = None


class UnreadableLora(LoraOffer):
    """Stands for a tenant's LoRA whose entry in Redis cannot be read."""


class AdapterEntry(Strict):
    """What the catalogue says of a LoRA or a style adapter alike: the families that it fits, and how it is known.

    `models`: those that it is for, where it does not suit every model of its families; models made of one of them
    count as it.
    """

    name: AdapterName
    families: list[Family] = Field(min_length=1)
    models: list[ModelName] = Field(default=[])
    description: str = ""
    license: str = ""

    @model_validator(mode="before")
    @classmethod
    def _of_one_family(cls, fields: Any) -> Any:
        """`family` stands for a list of one."""
        if not isinstance(fields, dict) or "family" not in fields:
            return fields
        if "families" in fields:
            raise ValueError("`family` and `families` at once")
        rest = {name: value for name, value in fields.items() if name != "family"}
        return {**rest, "families": [fields["family"]]}

    def misfit(self, model: str, family: str, base: str | None) -> str:
        """Why it cannot be on in pictures of the model; empty where it can."""
        if family not in self.families:
            return f"is for the family {' or '.join(self.families)}, and {model} is of {family}"
        if self.models and not {model, base} & set(self.models):
            return f"is for {' or '.join(self.models)}, not for {model}"
        return ""


class LoraEntry(AdapterEntry):
    """One LoRA of the catalogue, and where its file comes from.

    `scale` is what suits it, for people: requests have their own. `sha256`: the file has to have it.
    """

    source: Annotated[WeightsHubSource | WeightsFileSource | BundledSource, Field(discriminator="type")]
    scale: Scale = 1.0
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _bundled_by_digest(self) -> Self:
        if isinstance(self.source, BundledSource) and self.sha256 is None:
            raise ValueError("what comes with Darkroom is pinned here: `sha256` is missing")
        return self


class StyleEntry(AdapterEntry):
    """One style adapter (IP-Adapter) of the catalogue, and where its file and its image encoder come from.

    `digests`: what files have to have, `ip_adapter.safetensors` by its own name, `image_encoder/config.json` so.
    """

    source: Annotated[StyleHubSource | StyleFileSource | BundledSource, Field(discriminator="type")]
    digests: dict[str, Sha256] = Field(default={})

    @model_validator(mode="after")
    def _bundled_by_digests(self) -> Self:
        if isinstance(self.source, BundledSource) and not self.digests:
            raise ValueError("what comes with Darkroom is pinned here: `digests` are missing")
        return self
