"""`darkroom worker`: the parent of the worker processes. It checks what can be checked without loading torch."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated

import typer

from darkroom.cli.doctor.probe import probe
from darkroom.cli.errors import ExtraMissing, UsageFault
from darkroom.cli.options import AsJson, Catalogue, Device, Dtype, Memory, ModelsDir, Threads, set_environment
from darkroom.storage import StorageNotConfigured
from darkroom.storage.stores import load_settings
from darkroom.tasks import TaskSettings
from darkroom.tasks.catalogue import load_catalogue
from darkroom.tasks.message import LANES
from darkroom.worker.errors import DeviceUnavailable, ModelUnknown
from darkroom.worker.settings import WorkerSettings

EXAMPLES = """Examples:

darkroom worker --model sdxl

darkroom worker --model playground-v2.5 --gpus all

darkroom worker --model sd-1.5 --model my-model --catalogue models.json --device cpu
"""

NEEDED = ("torch", "diffusers", "transformers", "celery", "structlog")


def worker(
    *,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="What to serve; repeat it for more.")] = None,
    gpus: Annotated[str | None, typer.Option(metavar="all|0,1", help="One process for each of these GPUs.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    memory: Memory = None,
    threads: Threads = None,
    lane: Annotated[
        list[str] | None, typer.Option(help=f"Whose jobs to take: {', '.join(LANES)}; repeat it; default: all.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(help="Jobs in flight in a process; 0: by device.")] = None,
    max_batch: Annotated[int | None, typer.Option(help="Rows of the largest denoiser call; 0: by device.")] = None,
    catalogue: Catalogue = None,
    models_dir: ModelsDir = None,
    lease_seconds: Annotated[float | None, typer.Option(help="How long a silent worker keeps a job.")] = None,
    preview_every: Annotated[float | None, typer.Option(help="Seconds between previews of a job; 0: none.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, json or text.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    as_json: AsJson = False,
) -> int:
    """Serve models: one process per GPU, restarted when it dies. Ctrl-C or SIGTERM lets running jobs end, then stops.

    Options win over the DARKROOM_ variables of the same names.
    """
    if gpus is not None and device is not None:
        raise UsageFault("--gpus and --device at once", hint="--gpus chooses the devices")
    set_environment(
        lanes=",".join(lane) if lane else None,
        device=device, dtype=dtype, memory=memory, threads=threads, concurrency=concurrency, max_batch=max_batch,
        catalogue=catalogue, models_dir=models_dir, lease_seconds=lease_seconds, preview_every=preview_every,
        log_format="json" if as_json else log_format, log_level=log_level,
    )  # fmt: skip
    settings = WorkerSettings()
    names = _known(model or [], settings)
    _check_settings()
    for library in NEEDED:
        if find_spec(library) is None:
            raise ExtraMissing(library)
    devices = gpu_devices(gpus) if gpus is not None else (None,)
    from darkroom.worker.process.logs import configure_logs
    from darkroom.worker.process.supervisor import Supervisor  # with logs: they need structlog, an extra's library

    configure_logs(settings.log_format, settings.log_level)
    return Supervisor(names, devices).run()


def gpu_devices(gpus: str) -> Sequence[str]:
    """Devices by the option's value: `all` that are there, or `0,1`. Raises UsageFault, DeviceUnavailable."""
    if gpus != "all":
        numbers = [part.strip() for part in gpus.split(",")]
        if not all(number.isdecimal() for number in numbers) or len(set(numbers)) < len(numbers):
            raise UsageFault(f"--gpus {gpus!r} is neither all nor a list of numbers such as 0,1")
        return [f"cuda:{int(number)}" for number in numbers]
    found = [device for device in probe().devices if device.startswith("cuda:")]
    if not found:
        raise DeviceUnavailable("--gpus all: there is no CUDA device here", hint="leave --gpus out to serve on the CPU")
    return found


def _known(names: Sequence[str], settings: WorkerSettings) -> list[str]:
    catalogue = load_catalogue(settings.catalogue)
    there = ", ".join(sorted(catalogue))
    if not names:
        raise UsageFault("no model to serve", hint=f"name one with --model; there are: {there}")
    unknown = [name for name in names if name not in catalogue]
    if unknown:
        raise ModelUnknown(f"not in the catalogue: {', '.join(unknown)}; there are: {there}")
    return list(dict.fromkeys(names))


def _check_settings() -> None:
    """Raises what every process would end with."""
    TaskSettings()
    if load_settings().storage_url is None:
        raise StorageNotConfigured("a worker needs a store for its pictures")
