"""What several models make of one image: the latents of one are gone on with by another."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.needs import further_models
from darkroom.tasks.requests import JobRequest
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.base import Further, Kind, PreparedJob, Run, Tools


class HandingKind(Kind):
    """A kind whose denoising may be cut, and whose requests may name further models."""

    def prepare(self, request: JobRequest, tools: Tools) -> PreparedJob:
        """The words are encoded by each of the models, and the steps of each counted."""
        prepared = super().prepare(request, tools)
        further, warnings = {}, list(prepared.warnings)
        for name in further_models(request):
            other = tools.other(name)
            if unlike := other.space.differences(tools.space.about()):
                raise InvalidRequest(
                    [Fault("model", "not_supported", f"{name} has other latents: {'; '.join(unlike)}")]
                )
            conditioning, more = other.encode(prepared.asked)
            further[name] = Further(other, conditioning)
            warnings += more
        asked = _counted(prepared.asked, tools)
        warnings = list(dict.fromkeys([*warnings, *_idle(asked, tools)]))
        return replace(prepared, asked=asked, further=further, warnings=warnings)


def _counted(asked: Asked, tools: Tools) -> Asked:
    if not asked.left:
        return replace(asked, counted=0)
    if refiner := asked.refiner:
        asked = replace(asked, denoising_end=refiner.start)
        handed = tools.other(refiner.model).count_steps(asked.rest)
        return replace(asked, counted=tools.count_steps(asked), handed=handed)
    cut = asked.denoising_start is not None or asked.denoising_end is not None
    return replace(asked, counted=tools.count_steps(asked)) if cut else asked


def _idle(asked: Asked, tools: Tools) -> Iterator[str]:
    """What of the cut has no say: where a schedule's steps lie only its scheduler and its model's config tell."""
    if asked.counted is None:
        return
    if not asked.counted:
        yield "no_steps"
    if asked.refiner:
        if not asked.handed:
            yield "refiner_ignored"
    elif asked.denoising_end is not None and asked.counted == tools.count_steps(replace(asked, denoising_end=None)):
        yield "denoising_end_ignored"


def denoised(prepared: PreparedJob, run: Run, pipeline: str, **extent: Any) -> torch.Tensor:
    """The latents (1, 4, h/8, w/8) that a pipeline of the job's model leaves, and its refiner after it."""
    asked = prepared.asked
    latents = run.latents(pipeline, asked, prepared.conditioning, **extent)
    if asked.refiner is None or not asked.handed:
        return latents
    other = prepared.further[asked.refiner.model]
    return run.by(other.tools).latents("img2img", asked.rest, other.conditioning, image=latents)


def refiner_facts(prepared: PreparedJob) -> dict[str, object]:
    """What a picture's file says of it, as AUTOMATIC1111's web UI does."""
    refiner, handed = prepared.asked.refiner, prepared.asked.handed
    return {"Refiner": refiner.model, "Refiner switch at": f"{refiner.start:g}"} if refiner and handed else {}
