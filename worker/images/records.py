"""The parts of a manifest: each is checked as strictly when it is read as when it is made."""

import builtins
import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from PIL import Image
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from darkroom.storage.keys import EXTENSIONS, FILE_TYPES, file_key, is_role, output_key
from darkroom.tasks.adapters import LoraOffer, OwnOffer
from darkroom.tasks.catalogue import SCHEDULERS, Family, ModelName
from darkroom.tasks.fields import Seed
from darkroom.tasks.sizes import MOST_SIDE
from darkroom.worker.batching.placements import MAX_LENGTH, PATTERN
from darkroom.worker.images.schedulers import scheduler_record
from darkroom.worker.kinds.products import ProducedFile
from darkroom.worker.models.loading import LoadedModel

Text = Annotated[str, Field(max_length=1000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)+$", max_length=300)]
Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]

_ENDINGS = {f"image/{form.lower()}": ending for form, ending in EXTENSIONS.items()}


def _known_scheduler(name: object) -> object:
    if isinstance(name, str) and name not in SCHEDULERS:
        raise ValueError(f"no such scheduler; there are: {', '.join(SCHEDULERS)}")
    return name


def _role(name: str) -> str:
    if not is_role(name):
        raise ValueError("no role of a file: a lower-case letter, then at most 31 of a-z, 0-9 and _")
    return name


class Record(BaseModel):
    """Strict: no field too many, `"512"` is no number, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_by_name=True, validate_by_alias=True)


class ModelRecord(Record):
    """The weights: the hub's commit or "local", and the SHA-256 of every file."""

    name: ModelName
    family: Family
    revision: Text
    digests: dict[Text, Sha256] = Field(max_length=1000)


class SchedulerRecord(Record):
    """The scheduler as it ran; `class` is diffusers' name of it, `config` is without what differs between images."""

    id: Annotated[str, BeforeValidator(_known_scheduler)]
    class_name: Text = Field(alias="class")
    config: dict[Text, JsonValue] = Field(max_length=200)


class FurtherRecord(Record):
    """A model besides the job's own, and its scheduler."""

    model: ModelRecord
    scheduler: SchedulerRecord


class AdapterRecord(Record):
    """A LoRA that pictures were made with: the file's digest, and the order of LoRAs is that of the records.

    `model`: the one that had it, of several that had a part in the pictures. `place`: how many pages of rank 8 were
    before its own in each row of the denoiser's calls.
    """

    name: ModelName
    model: ModelName
    sha256: Sha256
    scale: float = Field(allow_inf_nan=False)
    rank: int = Field(ge=1)
    place: int = Field(ge=0)

    def offer(self, family: Family | None) -> LoraOffer:
        """As if it were on offer; `family` of one that is the tenant's own."""
        said = {"name": self.name, "sha256": self.sha256, "rank": self.rank}
        return OwnOffer.model_validate({**said, "family": family}) if family else LoraOffer.model_validate(said)


class StyleRecord(Record):
    """The style adapter that pictures were made with: SHA-256 of its files and its image encoder's, and the scales."""

    name: ModelName
    revision: Text
    digests: dict[Text, Sha256] = Field(max_length=100)
    style_scale: float = Field(allow_inf_nan=False)
    layout_scale: float = Field(allow_inf_nan=False)


class ImageRecord(Record):
    """One picture: `sha256` and `bytes` are the file's, `pixels_sha256` is that of its raw RGB before encoding.

    `calls` tells where its denoiser calls were placed (`worker/batching/placements.py`); "" where nothing is known.
    """

    index: int = Field(ge=0, le=255)
    seed: Seed
    width: Side
    height: Side
    sha256: Sha256
    pixels_sha256: Sha256
    key: Key
    bytes: int = Field(ge=1)
    content_type: Literal["image/png", "image/jpeg", "image/webp"]
    calls: str = Field(default="", pattern=PATTERN, max_length=MAX_LENGTH)

    @classmethod
    def of(
        cls,
        job_id: str,
        index: int,
        seed: int,
        image: Image.Image,
        data: builtins.bytes,
        content_type: str,
        calls: str = "",
    ) -> Self:
        """The record of a picture of this job that was encoded as `data`."""
        sha256 = hashlib.sha256(data).hexdigest()
        facts: dict[str, Any] = {
            "index": index,
            "seed": seed,
            "width": image.width,
            "height": image.height,
            "sha256": sha256,
            "pixels_sha256": pixels_sha256(image),
            "key": output_key(job_id, index, sha256, _ENDINGS[content_type]),
            "bytes": len(data),
            "content_type": content_type,
            "calls": calls,
        }
        return cls(**facts)

    def key_in(self, job_id: str) -> str:
        """The one key that this picture can have as a picture of that job."""
        return output_key(job_id, self.index, self.sha256, _ENDINGS[self.content_type])


class SampleRecord(Record):
    """A picture that was made while a training was under way, after `step`, with the LoRA as it was then.

    Nothing makes it again: the weights of that step are not kept.
    """

    index: int = Field(ge=0, le=255)
    step: int = Field(ge=0)
    prompt: Annotated[str, Field(max_length=10_000)]
    seed: Seed
    width: Side
    height: Side
    sha256: Sha256
    key: Key
    bytes: int = Field(ge=1)
    content_type: Literal["image/png"]

    @classmethod
    def of(
        cls, job_id: str, index: int, step: int, prompt: str, seed: int, image: Image.Image, data: builtins.bytes
    ) -> Self:
        """The record of a picture of this training that was encoded as `data`, a PNG."""
        sha256 = hashlib.sha256(data).hexdigest()
        facts: dict[str, Any] = {
            "index": index,
            "step": step,
            "prompt": prompt,
            "seed": seed,
            "width": image.width,
            "height": image.height,
            "sha256": sha256,
            "key": output_key(job_id, index, sha256, "png"),
            "bytes": len(data),
            "content_type": "image/png",
        }
        return cls(**facts)

    def key_in(self, job_id: str) -> str:
        """The one key that it can have as a sample of that job."""
        return output_key(job_id, self.index, self.sha256, "png")


class FileRecord(Record):
    """One file besides the pictures; `index` is that of the image it belongs to, None where it is of the whole job.

    `calls` as a picture has them, for a file of an image that has no picture.
    """

    role: Annotated[str, AfterValidator(_role)]
    index: int | None = Field(default=None, ge=0, le=255)
    sha256: Sha256
    key: Key
    bytes: int = Field(ge=1)
    content_type: Text
    calls: str = Field(default="", pattern=PATTERN, max_length=MAX_LENGTH)

    @classmethod
    def of(cls, job_id: str, file: ProducedFile, calls: str = "") -> Self:
        """The record of a file that this job made."""
        sha256 = hashlib.sha256(file.data).hexdigest()
        facts: dict[str, Any] = {
            "role": file.role,
            "index": file.index,
            "sha256": sha256,
            "key": file_key(job_id, file.role, file.index, sha256, file.extension),
            "bytes": len(file.data),
            "content_type": file.content_type,
            "calls": calls,
        }
        return cls(**facts)

    @property
    def extension(self) -> str:
        """What its key ends with."""
        return self.key.rpartition(".")[2]

    @property
    def place(self) -> str:
        """Where it stands among the job's files: `latents.2`, or `sheet`."""
        return self.role if self.index is None else f"{self.role}.{self.index}"

    def faults_in(self, job_id: str) -> Iterable[str]:
        """What of it cannot be as a file of that job: its key, its type."""
        if self.key != (key := file_key(job_id, self.role, self.index, self.sha256, self.extension)):
            yield f"has the key {self.key!r}, its own is {key!r}"
        if self.content_type != (known := FILE_TYPES.get(self.extension)):
            yield f"is {self.content_type!r}, a .{self.extension} file is {known!r}"


def model_record(model: LoadedModel) -> ModelRecord:
    """Which weights `model` runs."""
    entry = model.entry
    return ModelRecord(name=entry.name, family=entry.family, revision=model.revision, digests=model.digests)


def scheduler_record_of(model: LoadedModel, name: str) -> SchedulerRecord:
    """How `model` runs the scheduler of this id."""
    class_name, config = scheduler_record(name, model.components["scheduler"], model.entry.family)
    # Tuples and numpy's numbers as JSON would give them back, and as text what is no JSON number: DPM++'s -Infinity.
    plain = json.loads(json.dumps(config, default=str), parse_constant=str)
    return SchedulerRecord(id=name, class_name=class_name, config=plain)


def pixels_sha256(image: Image.Image) -> str:
    """The digest of a picture's raw RGB bytes, row by row: what "bit-equal" compares."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
