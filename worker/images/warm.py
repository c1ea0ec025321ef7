"""What a loaded model is tried with before its first job: a picture of every kind, part by part, and every bucket."""

import math

import torch

from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.stacking import Call
from darkroom.worker.batching.warming import warm_buckets
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.steps import OnStep
from darkroom.worker.images.trial import blame, check_steps
from darkroom.worker.kinds import KINDS
from darkroom.worker.kinds.base import Kind
from darkroom.worker.models.loading import warm_sizes

WARM_SECONDS = 10.0  # on a CPU, for buckets; the costs of what is not measured by then show in service
SOON = 20  # steps


def warm(generator: Generator, most_seconds: float = WARM_SECONDS) -> None:
    """Two steps of every kind, so that the first job pays nothing, and the denoiser in every bucket.

    First of all a check of the model's parts; raises ModelIncompatible, OutOfMemory, DeviceBroken.

    On a CPU at the smallest size, then at the first one to be ready for if that is soon done, and for so long at most;
    elsewhere, and where calls are compiled, at all of those.
    """
    model, engine = generator.model, generator.engine
    entry, placement = model.entry, model.placement
    sizes = warm_sizes(entry, placement)
    small = (entry.limits.min_side,) * 2
    first = _check(generator, *small)
    if first is None:
        return  # nothing that is offered denoises
    with blame("unet", model):
        if placement.device.type != "cpu" or "compile" in placement.speedups:
            for size in sizes:
                first = _try_all(generator, *size) or first
                warm_buckets(engine, first, math.inf)
                _warm_adapted(generator, first, math.inf)
            return
        if engine.stats().step * math.prod(sizes[0]) / math.prod(small) * SOON < most_seconds:
            first = _try(generator, _kinds(generator)[0], *sizes[0]) or first
        if not _warm_adapted(generator, first, most_seconds):
            warm_buckets(engine, first, most_seconds)


def warm_derived(generator: Generator) -> None:
    """Of a model whose base is warm: its schedulers, and a picture with its own LoRAs. Raises what `warm` raises."""
    model = generator.model
    with blame("scheduler", model):
        check_steps(model.entry, model.components["scheduler"])
    with blame("unet", model) as part:
        _try(generator, _kinds(generator)[0], *(model.entry.limits.min_side,) * 2, lambda *of: part.gave(of[2]))


def _warm_adapted(generator: Generator, call: Call, most_seconds: float) -> bool:
    """With what images may bring here; False where that is nothing.

    What such calls keep plain ones keep, too: on a CPU one of both is enough.
    """
    if generator.adapters is None:
        return False
    with generator.adapters.on_trial(call) as adapted:
        if adapted is call:
            return False
        warm_buckets(generator.engine, adapted, most_seconds)
    return True


def _kinds(generator: Generator) -> list[Kind]:
    """Those that the model's entry offers, and that it is tried with."""
    return [KINDS[name] for name in generator.entry.kinds if KINDS[name].tried]


def _check(generator: Generator, width: int, height: int) -> Call | None:
    """A picture of every kind, part by part: the model's files are at fault where one is not to be had.

    The first denoiser call, if any kind denoises. Raises ModelIncompatible naming the part, OutOfMemory, DeviceBroken.
    """
    model, scheduler = generator.model, generator.model.components["scheduler"]
    with blame("scheduler", model):
        check_steps(model.entry, scheduler)
    with blame("text_encoder", model) as part:
        request, _ = _kinds(generator)[0].trial(model.entry, width, height)
        part.gave(*generator.prepare(request).conditioning.values())
    with blame("vae", model) as part, generator.engine.streams.own(), torch.no_grad():
        latents = generator.vae.encode(torch.zeros(1, 3, height, width)).latent_dist.mode()
        part.gave(latents, generator.vae.decode(latents, return_dict=False)[0])
    with blame("unet", model) as part:
        return _try_all(generator, width, height, lambda *of: part.gave(of[2]))


def _try_all(generator: Generator, width: int, height: int, on_step: OnStep = lambda *_: None) -> Call | None:
    """Two steps of every kind; the first denoiser call."""
    calls = [_try(generator, kind, width, height, on_step) for kind in _kinds(generator)]
    return next((call for call in calls if call), None)


def _try(generator: Generator, kind: Kind, width: int, height: int, on_step: OnStep = lambda *_: None) -> Call | None:
    """Two steps of a picture of this size; its first denoiser call, if it has any."""
    calls: list[Call] = []
    request, sources = kind.trial(generator.entry, width, height)
    generator.generate(generator.prepare(request), 0, sources, on_step, Ticket(on_call=calls.append))
    return calls[0] if calls else None
