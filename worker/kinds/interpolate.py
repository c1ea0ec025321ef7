"""Pictures on the way from one prompt, or one seed, to another."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch

from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.requests import Interpolate, JobRequest
from darkroom.worker.batching.streams import used_here
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.base import Kind, PreparedJob, Run, Sources, Tools
from darkroom.worker.kinds.conditioning import Conditioning
from darkroom.worker.kinds.kept import kept
from darkroom.worker.kinds.latents import FACTOR
from darkroom.worker.kinds.products import Produced

CHANNELS = 4  # of the latents, in every family
ALIKE = 1e-4  # radians between two noises that are taken for one


@dataclass(frozen=True)
class Way(PreparedJob):
    """`conditioning` is that of the first frame, `last` of the last; `between`: both, of one length. `frame`: which."""

    last: Conditioning
    between: tuple[Conditioning, Conditioning]
    frame: int = 0

    def piece(self, index: int) -> "Way":
        """For a frame."""
        return replace(self, frame=index)


class InterpolateKind(Kind):
    """The ends as pictures of their own; between them embeddings are mixed, and noise is turned along an arc."""

    request = Interpolate
    trial_fields: ClassVar[dict[str, Any]] = {"frames": 3, "prompt_to": "a painting", "seed": 0, "seed_to": 1}

    def prepare(self, request: JobRequest, tools: Tools) -> Way:
        """Both prompts are encoded; the shorter one goes on with the empty text between the ends."""
        asked = Asked.of(request, tools.entry)
        prompt_to = cast("Interpolate", request).prompt_to
        prompts = (asked, replace(asked, prompt=prompt_to or asked.prompt))
        (first, warnings), (last, more) = _encoded(prompts, "prompt_to" if prompt_to else "prompt", tools)
        length = max(found["prompt_embeds"].shape[1] for found in (first, last))
        a, b = (tools.encode(one, length)[0] for one in prompts)
        return Way(self, request, asked, first, list(dict.fromkeys([*warnings, *more])), last, (a, b))

    def make(self, prepared: PreparedJob, _sources: Sources, run: Run) -> Produced:
        """What is kept of a frame."""
        way, request = cast("Way", prepared), cast("Interpolate", prepared.request)
        asked, end = way.asked, request.frames - 1
        size: dict[str, Any] = {"width": asked.width, "height": asked.height}
        if way.frame in (0, end):
            words = way.last if way.frame else way.conditioning
            return kept(way, run, run.latents("txt2img", asked, words, **size))
        part = way.frame / end
        words = mixed(*way.between, part)
        if request.seed_to is not None:
            dtype = words["prompt_embeds"].dtype
            draw, noise = drawn(run.seed, asked, dtype)
            size |= {"latents": slerp(noise, drawn(request.seed_to, asked, dtype)[1], part), "generator": draw}
        return kept(way, run, run.latents("txt2img", asked, words, **size))

    def facts(self, prepared: PreparedJob) -> dict[str, object]:
        """Where on the way."""
        way, request = cast("Way", prepared), cast("Interpolate", prepared.request)
        to = {"Interpolated to seed": request.seed_to} if request.seed_to is not None else {}
        return {"Frame": f"{way.frame + 1} of {request.frames}", **to}


def _encoded(prompts: tuple[Asked, Asked], last: str, tools: Tools) -> list[tuple[Conditioning, list[str]]]:
    """Both; `last`: the field of the second. Raises InvalidRequest with the faults of both."""
    found, errors, faults = [], list[InvalidRequest](), dict[Fault, None]()
    for asked, field in zip(prompts, ("prompt", last), strict=True):
        try:
            found.append(tools.encode(asked))
        except InvalidRequest as error:
            errors.append(error)
            faults |= {replace(one, field=field) if one.field == "prompt" else one: None for one in error.faults}
    if errors:
        raise type(errors[0])(list(faults))
    return found


def drawn(seed: int, asked: Asked, dtype: torch.dtype) -> tuple[torch.Generator, torch.Tensor]:
    """The noise (1, 4, h/8, w/8) that the pipelines begin with, and the generator as it is after they drew it."""
    draw = torch.Generator("cpu").manual_seed(seed)
    width, height = asked.width or 0, asked.height or 0
    return draw, torch.randn((1, CHANNELS, height // FACTOR, width // FACTOR), generator=draw, dtype=dtype)


def mixed(one: Conditioning, other: Conditioning, part: float) -> Conditioning:
    """So much of the other."""
    used_here(one)
    used_here(other)
    return _each(one, other, lambda a, b: torch.lerp(a.float(), b.float(), part).to(a.dtype))


def slerp(one: torch.Tensor, other: torch.Tensor, part: float) -> torch.Tensor:
    """Along the arc between two noises (Shoemake 1985, "Animating rotation with quaternion curves").

    Mixed evenly noise would lose a part of its variance on the way, and pictures would turn grey.
    """
    a, b = one.double().flatten(), other.double().flatten()
    angle = torch.arccos((a @ b / (a.norm() * b.norm())).clamp(-1, 1))
    if angle < ALIKE:
        return one
    turned = (torch.sin((1 - part) * angle) * a + torch.sin(part * angle) * b) / torch.sin(angle)
    return turned.reshape(one.shape).to(one.dtype)


def _each(
    one: Conditioning, other: Conditioning, change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> Conditioning:
    return {name: change(tensor, other[name]) for name, tensor in one.items()}
