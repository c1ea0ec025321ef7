"""The task API: all that a producer needs to submit generation jobs, follow them and fetch their pictures.

A first job:

    from darkroom.tasks import Darkroom, Txt2Img

    with Darkroom() as client:
        job = client.submit(Txt2Img(prompt="a large red star on a blue background")).wait().raise_for_state()
        job.images[0].save("star.png")
"""

from importlib.metadata import version

from darkroom.tasks.adapters import OwnLora
from darkroom.tasks.aio import AsyncDarkroom
from darkroom.tasks.async_handles import AsyncJobHandle
from darkroom.tasks.batches.aio import AsyncBatchHandle
from darkroom.tasks.batches.blocking import BatchHandle
from darkroom.tasks.batches.models import Batch, BatchItem, BatchState
from darkroom.tasks.catalogue import SCHEDULERS, ModelOffer
from darkroom.tasks.client import Darkroom
from darkroom.tasks.errors import (
    BatchCanceled,
    BatchNotFound,
    BatchSealed,
    ClientClosed,
    DarkroomError,
    Fault,
    IdempotencyConflict,
    InvalidRequest,
    JobFailed,
    JobNotFailed,
    JobNotFinished,
    JobNotFound,
    LoraNameTaken,
    LoraNotFound,
    QueueAuthFailed,
    QueueBroken,
    QueueBusy,
    QueueError,
    QueueFull,
    QueueUnavailable,
    QuotaExceeded,
    SettingsInvalid,
    StorageFailed,
    StorageNotConfigured,
    WaitTimeout,
    WishNotSupported,
)
from darkroom.tasks.events import EVENT_TYPES, TERMINAL_EVENTS, Event
from darkroom.tasks.handles import JobHandle
from darkroom.tasks.job import Job, JobError, JobResult, Progress, State
from darkroom.tasks.models import Market
from darkroom.tasks.operations import Outcome, Submitted
from darkroom.tasks.requests import (
    Decode,
    Embed,
    Encode,
    Extend,
    Finetune,
    Img2Img,
    Inpaint,
    Interpolate,
    Request,
    Txt2Img,
    parse_request,
)
from darkroom.tasks.requests.handover import Refiner
from darkroom.tasks.requests.hires import Hires
from darkroom.tasks.requests.loras import Lora
from darkroom.tasks.requests.stylize import Style, Stylize
from darkroom.tasks.results import StoredFile, StoredImage
from darkroom.tasks.settings import TaskSettings

__all__ = [
    "EVENT_TYPES",
    "SCHEDULERS",
    "TERMINAL_EVENTS",
    "AsyncBatchHandle",
    "AsyncDarkroom",
    "AsyncJobHandle",
    "Batch",
    "BatchCanceled",
    "BatchHandle",
    "BatchItem",
    "BatchNotFound",
    "BatchSealed",
    "BatchState",
    "ClientClosed",
    "Darkroom",
    "DarkroomError",
    "Decode",
    "Embed",
    "Encode",
    "Event",
    "Extend",
    "Fault",
    "Finetune",
    "Hires",
    "IdempotencyConflict",
    "Img2Img",
    "Inpaint",
    "Interpolate",
    "InvalidRequest",
    "Job",
    "JobError",
    "JobFailed",
    "JobHandle",
    "JobNotFailed",
    "JobNotFinished",
    "JobNotFound",
    "JobResult",
    "Lora",
    "LoraNameTaken",
    "LoraNotFound",
    "Market",
    "ModelOffer",
    "Outcome",
    "OwnLora",
    "Progress",
    "QueueAuthFailed",
    "QueueBroken",
    "QueueBusy",
    "QueueError",
    "QueueFull",
    "QueueUnavailable",
    "QuotaExceeded",
    "Refiner",
    "Request",
    "SettingsInvalid",
    "State",
    "StorageFailed",
    "StorageNotConfigured",
    "StoredFile",
    "StoredImage",
    "Style",
    "Stylize",
    "Submitted",
    "TaskSettings",
    "Txt2Img",
    "WaitTimeout",
    "WishNotSupported",
    "__version__",
    "parse_request",
]

__version__ = version("darkroom")
