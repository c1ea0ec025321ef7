"""The checks of `darkroom doctor`: each part gives findings, and what it raises is a finding too."""

import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from darkroom.cli.doctor.check import Check
from darkroom.cli.doctor.fleet import workers_up
from darkroom.cli.doctor.probe import probe
from darkroom.cli.errors import report
from darkroom.storage import ObjectStore, StorageSettings, open_store
from darkroom.storage.marks import MarkedStore
from darkroom.storage.stores import load_settings
from darkroom.tasks import QueueError, TaskSettings
from darkroom.tasks.catalogue import ModelEntry, load_catalogue
from darkroom.tasks.marks import holds, known_mark
from darkroom.tasks.models import read_market
from darkroom.tasks.redis_io import BlockingIO, command
from darkroom.worker.settings import WorkerSettings

OLDEST_SERVER = (7, 0)
CLOCK_SECONDS = 5.0
SLOW_SECONDS = 0.1  # a submit is one round trip
_WORKER_EXTRA = 'for a worker: pip install "darkroom[worker]"'
_PICTURE_BYTES = 1_000_000  # what the store must have room for: one of 1024 x 1024 is as large
PACKAGES = ("torch", "diffusers", "transformers", "celery", "redis", "pydantic", "boto3", "Pillow")


def guarded(part: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The findings of one part; what it raises ends it alone."""
    try:
        yield from check()
    except Exception as error:
        told = report(error)
        if told is None:
            raise
        yield Check(part, "broken", told.message, without_doctor(told.hint))


def without_doctor(hint: str) -> str:
    """A hint without the advice to ask the doctor: he is at work."""
    return "; ".join(part for part in hint.split("; ") if "darkroom doctor" not in part)


def versions() -> Iterator[Check]:
    """Darkroom's and those of the libraries that decide what a picture looks like."""
    found = {name: _version(name) for name in PACKAGES}
    there = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    yield Check("versions", "ok", f"darkroom {version('darkroom')}, python {platform.python_version()}, {there}")


def server() -> Iterator[Check]:
    """Reachable, new enough, keeps what it is given, and has the same time."""
    io = BlockingIO(TaskSettings())
    try:
        began = time.monotonic()
        io.run(read_market())  # a script: what a submit needs the right to
        took = time.monotonic() - began
        info = dict(io.run(_ask("INFO")))
        seconds, micros = io.run(_ask("TIME"))
    finally:
        io.close()
    yield _reached(info, took)
    yield from _memory(info)
    yield from _durability(info)
    yield _clock(time.time() - (int(seconds) + int(micros) / 1e6))


def workers() -> Iterator[Check]:
    """Who serves what now."""
    io = BlockingIO(TaskSettings())
    try:
        up = io.run(workers_up())
    finally:
        io.close()
    for worker in up:
        yield Check("workers", "ok", f"{worker.name} serves {worker.serves} on {worker.device}")
        for model, bank in worker.banks.items():
            yield Check("workers", "ok", f"{worker.name} has in its bank for {model}: {bank}")
        if worker.waits_for:
            yield Check("workers", "warning", f"{worker.name} takes no jobs: {worker.waits_for}")
        if worker.version != version("darkroom"):
            hint = "update both sides to one version"
            yield Check("workers", "warning", f"{worker.name} runs darkroom {worker.version}", hint)
    if not up:
        yield Check("workers", "warning", "none is up: jobs wait", "start one: darkroom worker --model NAME")


def storage() -> Iterator[Check]:
    """The store can be reached, listed and written to."""
    settings = load_settings()
    if settings.storage_url is None:
        hint = "set DARKROOM_STORAGE_URL (s3://bucket/prefix or file:///folder); only submitting goes without"
        yield Check("storage", "warning", "none is configured", hint)
        return
    store = _known_store(settings)
    began = time.monotonic()
    store.check(size=_PICTURE_BYTES)
    took = 1000 * (time.monotonic() - began)
    yield Check("storage", "ok", f"{store} can be listed and written to ({took:.0f} ms)")


def _known_store(settings: StorageSettings) -> ObjectStore:
    """The store as workers find it; as it is where Redis does not answer, which is another finding."""
    store, io = open_store(settings), BlockingIO(TaskSettings())
    try:
        known = io.run(known_mark())
        foreign = known is None and io.run(holds(store)) is False
    except QueueError:
        return store
    finally:
        io.close()
    return MarkedStore(store, lambda _: known) if known or foreign else store


def models(*, digests: bool) -> Iterator[Check]:
    """Every model of the catalogue that should be here is here, whole."""
    settings = WorkerSettings()
    entries = load_catalogue(settings.catalogue)
    if find_spec("filelock") is None:  # comes with the worker's libraries
        yield Check("models", "ok", "none can be here: the worker's libraries are not installed", _WORKER_EXTRA)
        return
    from darkroom.cli.doctor.inventory import holding

    for name, entry in sorted(entries.items()):
        if entry.base:  # its files are the base's, and LoRAs
            continue
        held = holding(entry, settings)
        if held.state == "missing" or held.wrong:
            yield _incomplete(name, entry, held.wrong)
        elif held.state != "not pulled":
            pinned = f"{held.revision}, {len(held.files)} files" if held.locked else "not used yet"
            yield Check("models", "ok", f"{name} is here ({pinned})")
            yield from _digests(name, held) if digests else ()


def device() -> Iterator[Check]:
    """What torch sees, and what a worker would choose."""
    if find_spec("torch") is None:
        yield Check("device", "warning", "torch is not installed: no worker can run here", _WORKER_EXTRA)
        return
    found = probe()
    there = ", ".join([*found.gpus, *(name for name in found.devices if not name.startswith("cuda"))])
    if found.fault:
        yield Check("device", "broken", found.fault, found.hint)
    else:
        yield Check("device", "ok", f"{there}; a worker takes {found.chosen}")
    if found.cuda_build and not found.gpus:
        hint = "if there is one: check the driver with nvidia-smi, and in containers the NVIDIA runtime"
        yield Check("device", "warning", "torch is a CUDA build, but sees no GPU", hint)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _ask(name: str) -> Any:
    return (yield command(name))


def _reached(info: dict[str, Any], took: float) -> Check:
    number = str(info.get("redis_version", "0"))
    name = f"valkey {info['valkey_version']}" if "valkey_version" in info else f"redis {number}"
    words = f"{name} answers in {1000 * took:.1f} ms"
    if info.get("cluster_enabled"):
        return Check("server", "broken", f"{name} is a cluster", "use one server, or a replica set")
    if tuple(int(part) for part in number.split(".")[:2]) < OLDEST_SERVER:
        return Check("server", "broken", f"{name} is too old", "use Redis 7 or newer, or Valkey")
    if took > SLOW_SECONDS:
        return Check("server", "warning", words, "every submit waits as long: move the two closer together")
    return Check("server", "ok", words)


def _memory(info: dict[str, Any]) -> Iterator[Check]:
    policy, limit = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    if policy != "noeviction":
        hint = "set maxmemory-policy noeviction: an evicted record is a lost job"
        yield Check("server", "warning", f"maxmemory-policy is {policy}", hint)
    elif limit and int(info.get("used_memory", 0)) > 0.9 * limit:
        hint = "raise maxmemory, or keep records for a shorter time (DARKROOM_RECORD_TTL)"
        yield Check("server", "warning", "over 90% of its memory is used", hint)


def _durability(info: dict[str, Any]) -> Iterator[Check]:
    if not int(info.get("aof_enabled", 0)):
        hint = "set appendonly yes, unless the jobs may go"
        yield Check("server", "warning", "no append-only file: a restart may lose the newest jobs", hint)


def _clock(apart: float) -> Check:
    if abs(apart) > CLOCK_SECONDS:
        hint = "run NTP on both; ages shown here are off, leases are not (they go by the server's clock)"
        return Check("server", "warning", f"its clock is {apart:+.1f} s from this machine's", hint)
    return Check("server", "ok", f"its clock is within {CLOCK_SECONDS:.0f} s of this machine's")


def _incomplete(name: str, entry: ModelEntry, wrong: tuple[str, ...]) -> Check:
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    is_hub = entry.source.type == "hub"
    hint = f"darkroom models pull {name}" if is_hub else "correct the path in your catalogue file, or restore the files"
    return Check("models", "broken", f"{name}: {wrong[0]}{more} is missing or has another size", hint)


def _digests(name: str, holding: Any) -> Iterator[Check]:
    from darkroom.worker.models.digests import verify

    if holding.locked and holding.files:
        verify(name, dict(holding.files), holding.locked)
        yield Check("models", "ok", f"{name}: every digest is the pinned one")
