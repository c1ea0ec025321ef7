"""The models that can be asked for: what each allows, its defaults, and where its weights come from.

Built-in entries are data (`catalogue.json`); an operator adds entries in a file of the same form, and every worker
publishes the entries it serves, so that a producer validates against what is really there.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from darkroom.tasks.errors import DarkroomError
from darkroom.tasks.findings import in_words

ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Family = Literal["sdxl", "playground", "sd", "sdxl-refiner"]
Kind = Literal["txt2img", "img2img", "inpaint", "encode", "decode", "interpolate", "embed"]
Prediction = Literal["diffusion", "edm", "distilled"]

#: Kinds that models of a family never do, and why.
NOT_OF_FAMILY: Mapping[str, tuple[Collection[str], str]] = {
    "sdxl-refiner": (
        ("txt2img", "inpaint", "interpolate"),
        "a refiner knows little noise alone, and begins with a picture",
    ),
}

#: Schedulers by the field's names, and which kind of model each fits.
SCHEDULERS: dict[str, tuple[str, Prediction]] = {
    "euler": ("Euler", "diffusion"),
    "euler_a": ("Euler a", "diffusion"),
    "dpmpp_2m": ("DPM++ 2M", "diffusion"),
    "dpmpp_2m_karras": ("DPM++ 2M Karras", "diffusion"),
    "dpmpp_2m_sde": ("DPM++ 2M SDE", "diffusion"),
    "dpmpp_sde": ("DPM++ SDE", "diffusion"),
    "ddim": ("DDIM", "diffusion"),
    "ddpm": ("DDPM", "diffusion"),
    "unipc": ("UniPC", "diffusion"),
    "pndm": ("PNDM", "diffusion"),
    "lcm": ("LCM", "distilled"),
    "edm_dpmpp_2m": ("EDM DPM++ 2M", "edm"),
    "edm_euler": ("EDM Euler", "edm"),
}

#: Steps that a scheduler's own schedule has, where it cannot do more: LCM was distilled in 50; with nearly as many as
#: there are of training, others look beyond their tables, or divide by the zero between two that are alike.
MOST_STEPS = {"lcm": 50, **dict.fromkeys(("ddim", "ddpm", "pndm", "dpmpp_2m", "dpmpp_2m_sde", "unipc"), 990)}


def scheduler_id(name: str) -> str:
    """`DPM++ 2M Karras` -> `dpmpp_2m_karras`; an id stays as it is."""
    return name.strip().lower().replace("++", "pp").replace(" ", "_").replace("-", "_")


class CatalogueError(DarkroomError):
    """A catalogue file cannot be used; the message names every fault."""

    code = "catalogue_invalid"
    exit_code = 4


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HubSource(_Strict):
    """A public repository on the Hugging Face hub; revision and digests are pinned at the first pull."""

    type: Literal["hub"] = "hub"
    repo: str
    revision: str = "main"
    variant: str | None = Field(default=None, description="such as fp16: files named *.fp16.safetensors")


class FolderSource(_Strict):
    """A local folder in the diffusers layout (`model_index.json` and a folder per component)."""

    type: Literal["folder"] = "folder"
    path: Path


class BundledSource(_Strict):
    """A model that comes with the worker: its weights lie in the installed package."""

    type: Literal["bundled"] = "bundled"
    name: ModelName


class FileSource(_Strict):
    """One `.safetensors` file with all weights, and a folder with the configs and tokenizers it lacks."""

    type: Literal["file"] = "file"
    path: Path
    config: Path


class Defaults(_Strict):
    """What a request that leaves the field out gets; from the model's card."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    num_inference_steps: int = Field(ge=1, le=1000)
    guidance_scale: float = Field(ge=0, le=30, allow_inf_nan=False)
    scheduler: str
    strength: float = Field(default=0.6, ge=0, le=1, allow_inf_nan=False)


class Limits(_Strict):
    """What the model allows; sides in pixels, `max_pixels` for width times height."""

    grid: int = Field(default=8, ge=8, multiple_of=8)
    min_side: int = Field(default=256, ge=8)
    max_side: int = Field(default=2048, le=16_384)
    max_pixels: int = Field(default=2048 * 1536, ge=64)
    max_steps: int = Field(default=200, ge=1, le=1000)
    max_images: int = Field(default=16, ge=1, le=256)
    max_prompt_chars: int = Field(default=4000, ge=1, le=10_000)
    max_frames: int = Field(default=64, ge=2, le=256)


class ModelOffer(_Strict):
    """What a producer must know of a model to ask for it; workers publish this much."""

    name: ModelName
    family: Family
    defaults: Defaults
    limits: Limits = Limits()
    schedulers: list[str]
    kinds: list[Kind] = Field(default=[*get_args(Kind)], min_length=1)
    description: str = ""
    license: str = ""
    prompt_tokens: int = Field(default=75, ge=1, description="tokens of the prompt that the text encoders read")

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
    """One model of the catalogue: the offer, and where its weights come from."""

    source: Annotated[HubSource | FolderSource | FileSource | BundledSource, Field(discriminator="type")]

    def offer(self) -> ModelOffer:
        """The entry without its source: paths of this machine are nobody else's business."""
        return ModelOffer.model_construct(**{name: getattr(self, name) for name in ModelOffer.model_fields})


Catalogue = Mapping[str, ModelOffer]


class _File(_Strict):
    models: list[ModelEntry]

    @field_validator("models")
    @classmethod
    def _no_name_twice(cls, models: list[ModelEntry]) -> list[ModelEntry]:
        names = Counter(model.name for model in models)
        if twice := [name for name, times in names.items() if times > 1]:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return models


def parse_catalogue(text: str, origin: str) -> dict[str, ModelEntry]:
    """Entries of one file: a JSON list of models. Raises CatalogueError with every fault."""
    try:
        data = json.loads(text.removeprefix("\ufeff"))  # the byte order mark that some editors write
    except RecursionError:
        raise CatalogueError(f"{origin}: no JSON: nested too deep") from None
    except ValueError as error:
        raise CatalogueError(f"{origin}: no JSON: {in_words(error)}") from None
    try:
        entries = _File.model_validate(data).models
    except ValidationError as error:
        faults = "; ".join(f"{_place(e['loc'], data)}: {e['msg']}" for e in error.errors(include_url=False))
        raise CatalogueError(f"{origin}: {faults}", hint='the form is {"models": [...]}') from None
    return {entry.name: entry for entry in entries}


def _place(location: tuple[int | str, ...], data: Any) -> str:
    """`models.NAME.defaults.width`: the name says more than the entry's number, where there is one."""
    parts = list(location) or ["the file"]
    if len(parts) > 1 and isinstance(entry := data["models"][parts[1]], dict):
        parts[1] = entry.get("name", parts[1])
    return ".".join(map(str, parts))


@cache
def builtin_catalogue() -> dict[str, ModelEntry]:
    """The models that Darkroom knows out of the box."""
    return parse_catalogue(files("darkroom.tasks").joinpath("catalogue.json").read_text(), "catalogue.json")


def load_catalogue(path: Path | None) -> dict[str, ModelEntry]:
    """Built-in entries, and over them the operator's file. Relative paths in it are relative to the file."""
    if path is None:
        return dict(builtin_catalogue())
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise CatalogueError(f"{path}: is no UTF-8 text") from None
    except OSError as error:
        raise CatalogueError(f"{path}: {error.strerror}", hint="check DARKROOM_CATALOGUE") from None
    own = parse_catalogue(text, str(path))
    return {**builtin_catalogue(), **{name: _anchored(entry, path.parent) for name, entry in own.items()}}


def _anchored(entry: ModelEntry, base: Path) -> ModelEntry:
    paths = {k: base / getattr(entry.source, k) for k in ("path", "config") if hasattr(entry.source, k)}
    return entry.model_copy(update={"source": entry.source.model_copy(update=paths)})
