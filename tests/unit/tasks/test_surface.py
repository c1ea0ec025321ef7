"""The package as a producer sees it."""

import subprocess
import sys
from importlib.metadata import version

import darkroom.tasks

HEAVY = {"torch", "diffusers", "transformers", "boto3", "botocore", "celery", "kombu", "PIL", "numpy", "httpcore"}
OURS = {"darkroom.storage", "darkroom.worker", "darkroom.cli"}


def test_public_names() -> None:
    assert set(darkroom.tasks.__all__) == {
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
        "OwnLora",
        "Style",
        "Stylize",
        "Market",
        "ModelOffer",
        "Outcome",
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
        "Submitted",
        "TaskSettings",
        "Txt2Img",
        "WaitTimeout",
        "WishNotSupported",
        "__version__",
        "parse_request",
    }


def test_every_public_name_is_there_and_documented() -> None:
    for name in darkroom.tasks.__all__:
        found = getattr(darkroom.tasks, name)
        assert not isinstance(found, type) or found.__doc__, name


def test_the_version_is_the_packages() -> None:
    assert darkroom.tasks.__version__ == version("darkroom")


def test_the_two_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert calls(darkroom.tasks.Darkroom) == calls(darkroom.tasks.AsyncDarkroom)
    assert calls(darkroom.tasks.BatchHandle) == calls(darkroom.tasks.AsyncBatchHandle)
    assert calls(darkroom.tasks.JobHandle) == calls(darkroom.tasks.AsyncJobHandle)


def test_a_producer_loads_nothing_heavy() -> None:
    """Nor does it after a client was made and a request refused."""
    program = (
        "import sys\n"
        "from darkroom.tasks import Darkroom, InvalidRequest, Txt2Img\n"
        "with Darkroom():\n"
        "    try: Txt2Img(prompt='', width='512')\n"
        "    except InvalidRequest as error: assert len(error.faults) == 2\n"
        f"print(*sorted({HEAVY | OURS} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
