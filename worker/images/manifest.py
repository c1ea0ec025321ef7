"""The manifest of a job: all that is needed to make its pictures again, and to tell why they come out otherwise.

It may come from anywhere and is hostile until checked: `parse_manifest` is the only way in from bytes. Nothing in it
is run, imported or opened as a path; a scheduler's config is there to be compared, never to be built from.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from darkroom.tasks.catalogue import Catalogue, ModelOffer
from darkroom.tasks.errors import InvalidRequest
from darkroom.tasks.fields import Seed
from darkroom.tasks.needs import further_models, lean
from darkroom.tasks.requests import JobRequest, Request, Stylize, parse_request
from darkroom.tasks.requests.parts import Seeded
from darkroom.tasks.validate import resolve
from darkroom.worker.errors import ManifestInvalid
from darkroom.worker.images.circumstances import circumstances, further_records, scheduler_of
from darkroom.worker.images.records import (
    AdapterRecord,
    FileRecord,
    FurtherRecord,
    ImageRecord,
    ModelRecord,
    Record,
    SampleRecord,
    SchedulerRecord,
    Sha256,
    StyleRecord,
    Text,
)
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.settings import MemoryMode

__all__ = [
    "FileRecord",
    "ImageRecord",
    "Manifest",
    "SampleRecord",
    "make_manifest",
    "manifest_key",
    "parse_manifest",
]

MAX_BYTES = 4_000_000  # 256 images of 1,000 steps, each in another place, and the largest request
MAX_FAULTS = 20  # named; the rest is counted


def _request(value: object) -> JobRequest:
    if isinstance(value, JobRequest):
        return value
    try:
        return parse_request(value)
    except InvalidRequest as error:
        raise ValueError(str(error)) from None


class Manifest(Record):
    """What one job was and what it ran on. `times` are in seconds, those named `..._at` since 1970.

    Without seeds, or a scheduler, is what its kind does without them. `samples` are apart from `images`, which a replay
    makes again.
    """

    version: Literal[1] = 1
    darkroom: Text
    job_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    request: Annotated[Request, BeforeValidator(_request)]
    seeds: list[Seed] = Field(max_length=256)
    model: ModelRecord
    scheduler: SchedulerRecord | None
    dtype: Literal["float32", "float16", "bfloat16"]
    memory: MemoryMode
    environment: dict[Text, int | Text] = Field(max_length=100)
    times: dict[Text, float] = Field(max_length=100)
    images: list[ImageRecord] = Field(max_length=256)
    files: list[FileRecord] = Field(default=[], max_length=1024)
    inputs_sha256: dict[Text, Sha256] = Field(default_factory=dict, max_length=20)
    further_models: list[FurtherRecord] = Field(default=[], max_length=20)
    adapters: list[AdapterRecord] = Field(default=[], max_length=100)
    style: StyleRecord | None = None
    samples: list[SampleRecord] = Field(default=[], max_length=256)

    def to_bytes(self) -> bytes:
        """JSON for people to read too; `parse_manifest` gives the same manifest back."""
        # Left out where there are none, for readers of before, which take no field that they do not know.
        later = ("files", "further_models", "adapters", "style", "samples")
        without = {name for name in later if not getattr(self, name)}
        fields = self.model_dump(mode="json", by_alias=True, exclude=without)
        fields["request"] = lean(self.request)
        pretty = (json.dumps(fields, indent=2, ensure_ascii=False) + "\n").encode()
        # Indented, the largest request that may be submitted would be more than `parse_manifest` reads.
        return pretty if len(pretty) < MAX_BYTES // 16 else json.dumps(fields, ensure_ascii=False).encode()

    @model_validator(mode="before")
    @classmethod
    def _of_one_input(cls, fields: object) -> object:
        """Manifests of 0.1 knew one input, the source picture."""
        if not isinstance(fields, dict) or "input_sha256" not in fields:
            return fields
        first = fields["input_sha256"]
        rest = {name: value for name, value in fields.items() if name != "input_sha256"}
        return rest if first is None else {"inputs_sha256": {"image": first}, **rest}

    @model_validator(mode="after")
    def _of_one_piece(self) -> Self:
        faults = list(_contradictions(self))
        if faults:
            raise ValueError("; ".join(faults))
        return self


def make_manifest(
    job_id: str,
    request: Request,
    model: LoadedModel,
    images: list[ImageRecord],
    times: dict[str, float],
    inputs_sha256: Mapping[str, str] | None = None,
    files: Sequence[FileRecord] = (),
    beside: Mapping[str, LoadedModel] = MappingProxyType({}),
    adapters: Sequence[AdapterRecord] = (),
    style: StyleRecord | None = None,
    samples: Sequence[SampleRecord] = (),
) -> Manifest:
    """The manifest of a resolved request that `model` has run; `inputs_sha256` are those of the inputs' files.

    `beside` has, by their names, the further models that had a part in it, `adapters` the LoRAs that were used,
    `style` the style adapter, `samples` the pictures of a training on its way.
    """
    facts: dict[str, Any] = {
        "job_id": job_id,
        "request": request,
        "seeds": request.all_seeds,
        **circumstances(model, scheduler_of(request)),
        "times": times,
        "images": images,
        "files": list(files),
        "inputs_sha256": dict(inputs_sha256 or {}),
        "further_models": further_records(request, beside),
        "adapters": list(adapters),
        "style": style,
        "samples": list(samples),
    }
    return Manifest(**facts)


def manifest_key(job_id: str, data: bytes) -> str:
    """Where a job's manifest of these bytes lies: its name tells whether they are still the same."""
    return f"{job_id}/manifest-{hashlib.sha256(data).hexdigest()[:16]}.json"


def parse_manifest(data: bytes, catalogue: Catalogue) -> Manifest:
    """A manifest from bytes that nobody vouches for. Raises ManifestInvalid, which names every fault.

    Its request must be one that the catalogue's entry of the model would allow today.
    """
    if len(data) > MAX_BYTES:
        raise _invalid([f"{len(data)} bytes; at most {MAX_BYTES} are read"])
    try:
        manifest = Manifest.model_validate(json.loads(data, parse_constant=_no_constant))
    except ValidationError as error:
        raise _invalid(_faults(error)) from None
    except (ValueError, RecursionError) as error:
        raise _invalid([f"no JSON: {str(error)[:200]}"]) from None
    faults = list(_not_allowed(manifest, catalogue))
    if faults:
        raise _invalid(faults)
    return manifest


def _contradictions(manifest: Manifest) -> Iterable[str]:
    request = manifest.request
    if request.model != manifest.model.name:
        yield f"the request is for {request.model!r}, the model is {manifest.model.name!r}"
    if scheduler_of(request) != (own := manifest.scheduler.id if manifest.scheduler else None):
        yield f"the request is for {scheduler_of(request)!r}, the scheduler is {own!r}"
    if further_models(request) != tuple(one.model.name for one in manifest.further_models):
        yield "the request names other further models"
    if request.all_seeds != manifest.seeds:
        yield "the request has other seeds"
    if isinstance(request, Seeded) and request.num_images != len(manifest.seeds):
        yield f"the request is for {request.num_images} images, there are {len(manifest.seeds)} seeds"
    adapters = {(one.name, one.sha256, one.scale) for one in manifest.adapters if one.model == request.model}
    for lora in getattr(request, "loras", []):
        if (lora.name, lora.sha256, lora.scale) not in adapters:
            yield f"the request has the LoRA {lora.name!r}, which is not among `adapters` with its digest and scale"
    yield from _style_contradictions(manifest)
    yield from _missing(manifest)
    for image in manifest.images:
        yield from _contradictions_of(image, manifest)
    for sample in manifest.samples:
        if sample.key != (key := sample.key_in(manifest.job_id)):
            yield f"sample {sample.index} has the key {sample.key!r}, its own is {key!r}"
    for file in manifest.files:
        yield from (f"file {file.place} {fault}" for fault in file.faults_in(manifest.job_id))
        if file.index is not None and file.index >= request.pieces:
            yield f"file {file.place} is of an image that was not asked for"


def _style_contradictions(manifest: Manifest) -> Iterable[str]:
    request, style = manifest.request, manifest.style
    asked = (request.style_scale, request.layout_scale) if isinstance(request, Stylize) else None
    if (asked is None) != (style is None):
        yield "the request has no styles, and there is `style`" if style else "the request has styles, without `style`"
    elif style and asked != (style.style_scale, style.layout_scale):
        yield "`style` has other scales than the request"


def _missing(manifest: Manifest) -> Iterable[str]:
    """What is missing, or there twice. Where files alone were made for an image, it has no picture."""
    listed, places = Counter(image.index for image in manifest.images), Counter(one.place for one in manifest.files)
    filed = {file.index for file in manifest.files}
    for index in sorted({*range(manifest.request.pieces), *listed}):
        if listed[index] > 1 or (not listed[index] and index not in filed):
            yield f"image {index} is {'listed twice' if listed[index] else 'missing'}"
    yield from (f"file {place} is listed twice" for place, times in places.items() if times > 1)
    samples = Counter(sample.index for sample in manifest.samples)
    yield from (f"sample {index} is listed twice" for index, times in samples.items() if times > 1)


def _contradictions_of(image: ImageRecord, manifest: Manifest) -> Iterable[str]:
    name, request = f"image {image.index}", manifest.request
    if image.index >= request.pieces:
        yield f"{name} was not asked for"
    elif (manifest.seeds[image.index] if image.index < len(manifest.seeds) else 0) != image.seed:
        yield f"{name} has a seed that is not its own"
    if image.key != (key := image.key_in(manifest.job_id)):
        yield f"{name} has the key {image.key!r}, its own is {key!r}"
    form = getattr(request, "output_format", None)
    if image.content_type != f"image/{form}":
        yield f"{name} is {image.content_type}, the request is for {form}"


def _not_allowed(manifest: Manifest, catalogue: Catalogue) -> Iterable[str]:
    entry = catalogue.get(manifest.model.name)
    if entry is None:
        known = ", ".join(sorted(catalogue))
        yield f"model.name: {manifest.model.name!r} is not in the catalogue; there are: {known}"
        return
    for model in (manifest.model, *(one.model for one in manifest.further_models)):
        known_as = catalogue.get(model.name)
        if known_as is not None and known_as.family != model.family:
            yield f"model.family: {model.family!r}, but {model.name} is of the family {known_as.family!r}"
    try:
        resolve(manifest.request, {**catalogue, entry.name: _with_loras(entry, manifest)}, lambda: None, kept=True)
    except InvalidRequest as error:
        yield from (f"request.{fault}" for fault in error.faults)
    width, height = manifest.request.result_size(entry)
    for image in manifest.images if width and height else ():
        if (image.width, image.height) != (width, height):
            yield f"image {image.index} has {image.width}x{image.height} pixels, the request is for {width}x{height}"


def _with_loras(entry: ModelOffer, manifest: Manifest) -> ModelOffer:
    """As if the LoRAs were here that it names: whether they are is found when they are loaded."""
    own = [one for one in manifest.adapters if one.model == entry.name]
    tenants = {(lora.name, lora.sha256) for lora in getattr(manifest.request, "loras", []) if lora.own}
    offers = [one.offer(entry.family if (one.name, one.sha256) in tenants else None) for one in own]
    return entry.model_copy(update={"loras": offers})


def _faults(error: ValidationError) -> list[str]:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    places = [".".join(map(str, item["loc"])) or "manifest" for item in found]
    return [f"{at}: {item['msg'].removeprefix('Value error, ')}" for at, item in zip(places, found, strict=True)]


def _invalid(faults: list[str]) -> ManifestInvalid:
    more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    return ManifestInvalid("; ".join([*faults[:MAX_FAULTS], *more]))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
