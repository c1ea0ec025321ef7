"""`darkroom loras`, as far as it is about LoRAs that belong to a tenant: bringing, deleting, getting them back."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkroom.cli.errors import FileFault, UsageFault
from darkroom.cli.options import AsJson, Catalogue, worker_settings
from darkroom.cli.reading import local_path
from darkroom.cli.screen import Screen, size
from darkroom.storage import ObjectStore, open_store
from darkroom.tasks import Darkroom, LoraNotFound, ModelOffer, OwnLora, TaskSettings, own_versions
from darkroom.tasks.catalogue import load_catalogue
from darkroom.tasks.marks import expecting
from darkroom.tasks.own_loras import MOST_BYTES, Owned, folder_of, key_of, read_all
from darkroom.tasks.own_versions import Run
from darkroom.tasks.redis_io import BlockingIO, Operation, T
from darkroom.worker.errors import AdapterDigestMismatch, AdapterIncompatible

if TYPE_CHECKING:
    from darkroom.worker.adapters.facts import LoraFacts

Tenant = Annotated[str, typer.Option(help="Whose LoRAs.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A LoRA of the tenant's own.")]

#: Families by what a file's header makes of itself.
_FAMILIES = {
    "SDXL": "sdxl",
    "Stable Diffusion 1": "sd",
    "Stable Diffusion 2": "sd",
    "SDXL's refiner": "sdxl-refiner",
}


def add(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .safetensors file with a plain LoRA.")],
    *,
    name: Annotated[str, typer.Option(help="What requests call it.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model that it was made for; else its header has to tell.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="The new version of a name that is taken.")] = False,
    tenant: Tenant = "default",
    catalogue: Catalogue = None,
    as_json: AsJson = False,
) -> None:
    """Make a file a LoRA of the tenant's own: check its header, and store it for all workers.

    Its numbers are looked at by the first job that it is used in.
    """
    screen, path = Screen(as_json=as_json), local_path(file, "FILE")
    folder_of(tenant, name)
    facts = _checked(path)
    offer = _model(model, catalogue) if model else None
    data = path.read_bytes()
    lora = OwnLora(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        rank=facts.rank,
        text=any(part != "unet" for part in facts.parts),
        family=offer.family if offer else _family(path, facts),
        bytes=len(data),
        base=offer.name if offer else None,
        made=datetime.now(UTC),
    )
    with _parts() as (run, store):
        own_versions.add(run, store, tenant, lora, data, overwrite=overwrite)
    screen.result(
        document(lora, tenant), f"{name}: {size(lora.bytes)}, rank {lora.rank}, for {lora.family}, of tenant {tenant}"
    )


def delete(name: Name, *, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Delete a LoRA of the tenant's own with all its versions. Jobs that name it and have not begun fail."""
    screen = Screen(as_json=as_json)
    with Darkroom() as client:
        files = client.delete_lora(name, tenant=tenant)
    screen.result({"name": name, "tenant": tenant, "versions": files}, f"{name}: deleted, {files} versions")


def export(
    name: Name,
    *,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")],
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Write the file of a LoRA of the tenant's own: a .safetensors file that other programs read, too."""
    screen, target = Screen(as_json=as_json), local_path(output, "--output")
    with _parts() as (run, store):
        lora = find(run(lambda: read_all(tenant)), name, tenant)
        data = store.get(key_of(tenant, name, lora.sha256), limit=MOST_BYTES)
    if hashlib.sha256(data).hexdigest() != lora.sha256:
        raise AdapterDigestMismatch(f"the file of the LoRA {name} in the store is another one", hint="add it again")
    target.write_bytes(data)
    screen.result({**document(lora, tenant), "path": str(target)}, f"{target}: {size(len(data))}")


def restore(
    *,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write anew what Redis has lost of tenants' LoRAs, from what lies in the store."""
    screen = Screen(as_json=as_json)
    with _parts() as (run, store):
        found = own_versions.restore(run, store, tenant)
    for key in found.unreadable:
        screen.note(f"left alone, since it cannot be read: {key}")
    words = f"{len(found.written)} LoRAs written anew{': ' if found.written else ''}{', '.join(found.written)}"
    screen.result({"written": found.written, "unreadable": found.unreadable}, words)


def owned(tenant: str) -> Owned:
    """All that the tenant has. Raises QueueError, InvalidRequest."""
    with closing(BlockingIO(TaskSettings())) as io:
        return io.run(read_all(tenant))


def find(there: Owned, name: str, tenant: str) -> OwnLora:
    """The LoRA of this name. Raises LoraNotFound."""
    if name in there.unreadable:
        raise LoraNotFound(f"what Redis has of the LoRA {name!r} cannot be read", hint="run `darkroom loras restore`")
    if name not in there.loras:
        raise LoraNotFound(f"tenant {tenant} has no LoRA {name!r}")
    return there.loras[name]


def document(lora: OwnLora, tenant: str) -> dict[str, Any]:
    """In the words of those of the catalogue, and what is said of own ones alone."""
    said = lora.model_dump(mode="json", exclude={"family", "license"})
    return {**_same(lora.name, tenant), **said, "families": [lora.family], "state": "own", "license": lora.license}


def unreadable(name: str, tenant: str) -> dict[str, Any]:
    """Of one that cannot be read."""
    return {**_same(name, tenant), "state": "unreadable"}


def _same(name: str, tenant: str) -> dict[str, Any]:
    return {
        "name": name,
        "own": True,
        "tenant": tenant,
        "families": [],
        "models": [],
        "reason": None,
        "rank": None,
        "scale": 1.0,
        "text": None,
        "workers": {},
        "sha256": None,
        "description": "",
        "license": "",
    }


@contextmanager
def _parts() -> Iterator[tuple[Run, ObjectStore]]:
    """What Redis is asked with, and the store that it knows."""
    rules = TaskSettings()
    store = open_store(expected=expecting(rules))
    with closing(BlockingIO(rules)) as io:

        def run(make: Callable[[], Operation[T]], /) -> T:
            return io.run(make())

        yield run, store


def _checked(path: Path) -> "LoraFacts":
    """What the header says. Raises an AdapterError for what is no plain LoRA, FileFault for one that is too large."""
    from darkroom.worker.adapters.facts import inspect_lora  # loads torch

    facts = inspect_lora(path)
    if facts.faults:
        raise AdapterIncompatible(f"{path}: {'; '.join(facts.faults)}")
    if facts.bytes > MOST_BYTES:
        raise FileFault(f"{path}: {size(facts.bytes)}; a LoRA has {size(MOST_BYTES)} at most")
    return facts


def _model(name: str, catalogue: str | None) -> ModelOffer:
    """Of the catalogue, or one that a worker serves. Raises UsageFault."""
    known: Mapping[str, ModelOffer] = load_catalogue(worker_settings(catalogue, None).catalogue)
    if name not in known:
        with Darkroom() as client:
            known = {**client.models().offers, **known}
    if name not in known:
        raise UsageFault(f"--model {name}: no such model; there are: {', '.join(sorted(known))}")
    return known[name]


def _family(path: Path, facts: "LoraFacts") -> str:
    """As the header tells. Raises UsageFault where it does not, or tells of one that is not run."""
    if facts.family in _FAMILIES:
        return _FAMILIES[facts.family]
    why = f"seems to be made for {facts.family}" if facts.family else "does not say which models it is for"
    raise UsageFault(f"{path} {why}", hint="name one of them by --model")
