"""What a job needs of its worker beyond what every worker has: a set of short strings, kept in its record.

Workers and producers are never all of one version. What the first release could do is written down here; whatever a
request asks beyond it becomes a need, without a line of code: a field that was added (`hires`), a value that was
(`kind:inpaint`, `scheduler:heun`), and each further model (`model:sdxl-refiner`). A job goes only to a worker that says
that it has them all (`abilities`), and a job that needs nothing is written so that the first release reads it.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

#: Fields of a request in the first release. Never add to it: a field that is not here is one that not all workers know.
RELEASED_FIELDS = frozenset(
    {
        *("kind", "model", "prompt", "negative_prompt", "image", "strength", "width", "height", "num_inference_steps"),
        *("guidance_scale", "scheduler", "seed", "num_images", "seeds", "output_format", "batching", "start_by"),
        *("finish_by", "lane", "tenant", "idempotency_key", "metadata"),
    }
)

#: Values that these fields could have in the first release, where the list may grow. Never add to these either.
RELEASED_VALUES: dict[str, Collection[str]] = {
    "kind": ("txt2img", "img2img"),
    "output_format": ("png", "jpeg", "webp"),
    "batching": ("auto", "solo"),
    "scheduler": (
        *("euler", "euler_a", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde", "dpmpp_sde", "ddim", "ddpm", "unipc"),
        *("pndm", "lcm", "edm_dpmpp_2m", "edm_euler"),
    ),
}


class FurtherModel:
    """Marks a field that names a model besides the job's own: `refiner: Annotated[ModelName | None, FurtherModel()]`.

    The worker must serve that one, too. Fields of models within the request are looked at as well.
    """


@dataclass(frozen=True)
class LaterField:
    """Marks a field of a part that came after the part: `own: Annotated[bool, LaterField("lora:own")] = False`.

    Workers may know the part and not the field; with another value than its default it is a need of that name.
    """

    need: str


def needs_of(request: BaseModel) -> tuple[str, ...]:
    """What a filled request needs, sorted; nothing where any worker of the model can run it."""
    asked = {name: getattr(request, name, None) for name in RELEASED_VALUES}
    values = (value_need(name, value) for name, value in asked.items() if value is not None)
    added = (*_added_fields(request), *_further_models(request), *_later_fields(request))
    return tuple(sorted({*filter(None, values), *added}))


def further_models(request: BaseModel) -> tuple[str, ...]:
    """The names of the models that a request names besides its own, sorted."""
    return tuple(sorted({need.removeprefix("model:") for need in _further_models(request)}))


def value_need(field: str, value: object) -> str | None:
    """The need for a field's value that the first release lacks, such as `kind:inpaint`; None where it had it."""
    return None if value in RELEASED_VALUES[field] else f"{field}:{value}"


def lean(request: BaseModel) -> dict[str, Any]:
    """The request for JSON, without the added fields that are at their defaults: older readers refuse unknown ones."""
    added = type(request).model_fields.keys() - RELEASED_FIELDS
    return request.model_dump(mode="json", exclude={name for name in added if _at_default(request, name)})


def abilities(
    kinds: Iterable[type[BaseModel]],
    schedulers: Iterable[str] = (),
    beside: Iterable[str] = (),
    lacks: Collection[str] = (),
) -> frozenset[str]:
    """What a worker has for one model, in the same words.

    `kinds`: the request classes that it can run with it; each of their fields counts, and each value of a `Literal`.
    `beside`: models that it serves besides. `lacks`: what is left out, such as a field for which a library is missing.
    """
    classes = list(kinds)
    values = [*(("scheduler", name) for name in schedulers), *(pair for cls in classes for pair in _literals(cls))]
    fields = {name for cls in classes for name in cls.model_fields} - RELEASED_FIELDS
    later = {mark.need for cls in classes for mark in _later_marks(cls)}
    found = {value_need(*pair) for pair in values} | fields | later | {f"model:{name}" for name in beside}
    return frozenset(need for need in found if need) - frozenset(lacks)


def _literals(cls: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name in RELEASED_VALUES.keys() & cls.model_fields.keys():
        annotation = cls.model_fields[name].annotation
        yield from ((name, value) for value in get_args(annotation) if get_origin(annotation) is Literal)


def _added_fields(request: BaseModel) -> Iterator[str]:
    """Those that say something. A required one was there when its kind came: the kind's need says it already."""
    for name, field in type(request).model_fields.items():
        if name not in RELEASED_FIELDS and not field.is_required() and not _at_default(request, name):
            yield name


def _at_default(request: BaseModel, name: str) -> bool:
    field = type(request).model_fields[name]
    is_default: bool = getattr(request, name) == field.get_default(call_default_factory=True, validated_data={})
    return is_default and not field.is_required()


def _further_models(part: BaseModel) -> Iterator[str]:
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, BaseModel):
            yield from _further_models(value)
        elif value is not None and any(isinstance(mark, FurtherModel) for mark in field.metadata):
            yield f"model:{value}"


def _later_fields(part: BaseModel) -> Iterator[str]:
    for name, field in type(part).model_fields.items():
        value = part.__dict__.get(name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, BaseModel):
                yield from _later_fields(one)
        if value != field.default:
            yield from (mark.need for mark in field.metadata if isinstance(mark, LaterField))


def _later_marks(annotation: Any) -> Iterator[LaterField]:
    """Those of a class of requests, or of a field's annotation, and of all parts within it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for field in annotation.model_fields.values():
            yield from (mark for mark in field.metadata if isinstance(mark, LaterField))
            yield from _later_marks(field.annotation)
    for inner in get_args(annotation):
        yield from _later_marks(inner)
