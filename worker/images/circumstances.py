"""What the bits of a job's pictures depend on besides its request."""

from collections.abc import Mapping
from typing import Any

from darkroom.tasks.needs import further_models
from darkroom.tasks.requests import JobRequest
from darkroom.worker.images.records import FurtherRecord, model_record, scheduler_record_of
from darkroom.worker.models.device import environment, installed
from darkroom.worker.models.loading import LoadedModel


def further_records(request: JobRequest, beside: Mapping[str, LoadedModel]) -> list[FurtherRecord]:
    """Of the models that a request names besides its own, as far as they are here."""
    models = [beside[name] for name in further_models(request) if name in beside]
    scheduler = str(scheduler_of(request))
    return [FurtherRecord(model=model_record(one), scheduler=scheduler_record_of(one, scheduler)) for one in models]


def scheduler_of(request: JobRequest) -> str | None:
    """The scheduler's id; None where the kind has none."""
    found: str | None = getattr(request, "scheduler", None)
    return found


def circumstances(model: LoadedModel, scheduler: str | None) -> dict[str, Any]:
    """What the bits of a picture depend on besides the request: the manifest's fields of these names."""
    return {
        "darkroom": installed("darkroom"),
        "model": model_record(model),
        "scheduler": scheduler_record_of(model, scheduler) if scheduler else None,
        "dtype": str(model.placement.dtype).removeprefix("torch."),
        "memory": model.placement.memory,
        "environment": environment(model.placement),
    }
