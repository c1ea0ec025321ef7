"""From a request to a job that can be run: the catalogue's limits, its defaults, and the seeds.

Everything that a worker needs is decided here, at submit, so that a job means the same whoever runs it and whenever.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.tasks.catalogue import MOST_STEPS, SCHEDULERS, Catalogue, Limits, ModelOffer, scheduler_id
from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.fields import MAX_SEED
from darkroom.tasks.needs import lean
from darkroom.tasks.requests import DEFAULT_KIND, KINDS, Img2Img, Request, Txt2Img, parse_request
from darkroom.tasks.tokens import least_tokens

MAX_REQUEST_BYTES = 320 * 1024  # as JSON; the largest data: URL has room in it

#: Pixels a side that an output format can hold, where models may make more.
LONGEST_SIDE = {"webp": 16_383}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A valid request: as it was asked, with every default filled in, and the model's offer."""

    asked: Request
    filled: Request
    offer: ModelOffer


def resolve(
    request: Request | Mapping[str, Any], catalogue: Catalogue, default_model: Callable[[], str | None]
) -> Resolved:
    """Fills in every default and one seed per image. Raises InvalidRequest with every fault.

    Faults of form and against the catalogue are named together, as far as the fields can be read. A request object is
    looked at again: `model_copy` and lists that were changed in it pass every check by.
    """
    asked = _parsed(_given(request) if isinstance(request, Txt2Img | Img2Img) else request, catalogue)
    name = asked.model or default_model()
    offer = catalogue.get(name) if name else None
    if offer is None:
        raise InvalidRequest([_unknown_model(name, catalogue)])
    faults = list(_faults(asked, offer))
    if faults:
        raise InvalidRequest(faults)
    return Resolved(asked, _filled(asked, offer), offer)


def _given(request: Request) -> dict[str, Any]:
    """The fields that are not at their defaults."""
    fields = type(request).model_fields
    return {name: value for name, value in request if name == "kind" or value is not fields[name].default}


def _parsed(data: Mapping[str, Any], catalogue: Catalogue) -> Request:
    try:
        return parse_request(data)
    except InvalidRequest as error:
        more = _catalogue_faults_of(data, error.faults, catalogue) if isinstance(data, Mapping) else []
        raise InvalidRequest([*error.faults, *more]) from None


def warnings_of(request: Request, entry: ModelOffer) -> list[str]:
    """What is no fault, and may not be what was meant.

    `prompt_truncated`: the text encoders certainly do not read a prompt to its end. A lower bound: the worker has
    the tokenizer, and adds the warning to the result. `negative_prompt_ignored`: without guidance it has no say.
    """
    scale = entry.defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale
    negative, guided = request.negative_prompt or "", scale > 1  # diffusers' rule
    texts = [request.prompt, negative if guided else ""]
    found = ["prompt_truncated"] if any(least_tokens(text) > entry.prompt_tokens for text in texts) else []
    return found if guided or not negative else [*found, "negative_prompt_ignored"]


def canonical(request: Request) -> bytes:
    """The request as JSON bytes, the same for the same request. Raises InvalidRequest where these are too many."""
    data = json.dumps(
        lean(request), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    ).encode()
    if len(data) > MAX_REQUEST_BYTES:
        raise InvalidRequest([_too_large(len(data))])
    return data


def digest(request: Request) -> str:
    """Tells whether two requests under one idempotency key are the same.

    Of what was given alone: a field that a later version adds does not make another request of it.
    """
    given = request.model_dump(mode="json", exclude_defaults=True) | {"kind": request.kind}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _too_large(size: int) -> Fault:
    hint = "client.upload(path) stores a picture and returns its key"
    return Fault("request", "request_too_large", f"{size} bytes, at most {MAX_REQUEST_BYTES} are allowed; {hint}")


def _unknown_model(name: str | None, catalogue: Catalogue) -> Fault:
    known = ", ".join(sorted(catalogue))
    if name is None:
        return Fault("model", "missing", f"several models or none are served: name one of {known}")
    return Fault("model", "unknown_model", f"{name!r} is not in the catalogue; there are: {known}")


def _catalogue_faults_of(data: Mapping[str, Any], known: list[Fault], catalogue: Catalogue) -> list[Fault]:
    """Faults against the catalogue of a mapping that is broken elsewhere: its unbroken fields are looked at."""
    broken = {fault.field.partition(".")[0] for fault in known}
    kind = KINDS.get(str(data.get("kind", DEFAULT_KIND)))
    if kind is None or "model" in broken or not isinstance(data.get("model"), str):
        return []
    entry = catalogue.get(data["model"])
    if entry is None:
        return [_unknown_model(data["model"], catalogue)]
    whole = {k: v for k, v in data.items() if k in kind.model_fields and k not in broken}
    required = {k: None for k, field in kind.model_fields.items() if field.is_required()}
    return list(_faults(kind.model_construct(**{**required, **whole}), entry))


def _faults(request: Request, entry: ModelOffer) -> Iterable[Fault]:
    limits = entry.limits
    if request.kind not in entry.kinds:
        yield Fault("kind", "kind_not_supported", f"{entry.name} does {', '.join(entry.kinds)}")
    for field, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
        if text is not None and len(text) > limits.max_prompt_chars:
            yield Fault(field, "too_long", f"{len(text)} characters, at most {limits.max_prompt_chars} are allowed")
    yield from _size_faults(request, entry)
    yield from _step_faults(request, entry)
    images = len(request.seeds) if request.seeds else request.num_images
    if images is not None and images > limits.max_images:
        yield Fault("num_images", "too_large", f"{entry.name} allows at most {limits.max_images} a job")
    if request.scheduler is not None and scheduler_id(request.scheduler) not in entry.schedulers:
        label = SCHEDULERS[scheduler_id(request.scheduler)][0]
        fitting = ", ".join(entry.schedulers)
        yield Fault("scheduler", "scheduler_not_supported", f"{label} does not fit {entry.name}; there are: {fitting}")


def _step_faults(request: Request, entry: ModelOffer) -> Iterable[Fault]:
    steps, limit = request.num_inference_steps or entry.defaults.num_inference_steps, entry.limits.max_steps
    scheduler = scheduler_id(request.scheduler or entry.defaults.scheduler)
    if steps > limit:
        yield Fault("num_inference_steps", "too_large", f"{entry.name} allows at most {limit}")
    elif steps > MOST_STEPS.get(scheduler, limit):
        label, most = SCHEDULERS[scheduler][0], MOST_STEPS[scheduler]
        yield Fault("num_inference_steps", "too_large", f"{label} does at most {most}, not {steps}")


def _size_faults(request: Request, entry: ModelOffer) -> Iterable[Fault]:
    if isinstance(request, Img2Img) and (request.width is None) != (request.height is None):
        missing = "width" if request.width is None else "height"
        yield Fault(missing, "missing", "give width and height, or neither to keep the picture's own size")
    yield from size_faults(request.width, request.height, entry)
    sides = (request.width, request.height)
    if isinstance(request, Txt2Img):
        sides = (request.width or entry.defaults.width, request.height or entry.defaults.height)
    longest, most = max(side or 0 for side in sides), LONGEST_SIDE.get(request.output_format)
    if most and longest > most:
        reason = f"{request.output_format} holds at most {most} pixels a side, not {longest}; png holds more"
        yield Fault("output_format", "too_large", reason)


def source_limits(request: Request, limits: Limits) -> Limits:
    """The limits that a source picture is scaled into where no size is asked for: the model's, and the format's."""
    most = LONGEST_SIDE.get(request.output_format, limits.max_side)
    return limits.model_copy(update={"max_side": min(limits.max_side, most)})


def size_faults(width: int | None, height: int | None, entry: ModelOffer) -> Iterable[Fault]:
    """What keeps the model from making pictures of this size; a side that is None is the model's own."""
    limits, defaults = entry.limits, entry.defaults
    for field, side in (("width", width), ("height", height)):
        if side is None:
            continue
        if side % limits.grid:
            near = max(limits.grid, round(side / limits.grid) * limits.grid)
            yield Fault(field, "off_grid", f"{side} is not a multiple of {limits.grid}; {near} is near")
        if not limits.min_side <= side <= limits.max_side:
            yield Fault(field, "out_of_range", f"{side} is not within {limits.min_side} to {limits.max_side} pixels")
    if not (width or height):
        return
    width, height = width or defaults.width, height or defaults.height
    if width * height > limits.max_pixels:
        yield Fault("width", "too_many_pixels", f"{width}x{height} is over {entry.name}'s {limits.max_pixels} pixels")


def _filled(request: Request, entry: ModelOffer) -> Request:
    defaults = entry.defaults.model_dump()
    if isinstance(request, Img2Img):  # its size is the picture's, unless asked for
        del defaults["width"], defaults["height"]
    values = {k: v for k, v in defaults.items() if k in type(request).model_fields and getattr(request, k) is None}
    seeds = _seeds(request)
    return request.model_copy(
        update={**values, "model": entry.name, "seed": None, "seeds": seeds, "num_images": len(seeds)}
    )


def _seeds(request: Request) -> list[int]:
    if request.seeds is not None:
        return request.seeds
    images = request.num_images or 1
    if request.seed is None:
        return [secrets.randbelow(MAX_SEED + 1) for _ in range(images)]
    return [(request.seed + i) % (MAX_SEED + 1) for i in range(images)]
