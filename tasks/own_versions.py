"""Making, deleting and finding again what a tenant has of LoRAs. What lies where: `darkroom.tasks.own_loras`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from darkroom.tasks.adapters import OwnLora
from darkroom.tasks.errors import LoraNameTaken, LoraNotFound
from darkroom.tasks.own_loras import PREFIX, Version, decode, folder_of, key_of, read_named
from darkroom.tasks.redis_io import Key, Operation, T, command
from darkroom.tasks.results import ObjectStore


class Run(Protocol):
    """Runs operations, each made when it is to run: it may be tried again."""

    def __call__(self, make: Callable[[], Operation[T]], /) -> T:
        """What the operation says."""


def check_free(tenant: str, name: str, job: str | None = None) -> Operation[None]:
    """Raises LoraNameTaken where the tenant has one of this name that another than this job has made.

    InvalidRequest for what is no name. An entry that cannot be read takes its name, too.
    """
    folder_of(tenant, name)
    text = yield command("HGET", Key(f"loras:{tenant}"), name)
    if text is not None:
        _check_mine(name, text, job)


def add(run: Run, store: ObjectStore, tenant: str, lora: OwnLora, data: bytes, *, overwrite: bool = False) -> None:
    """Stores a version and makes it the newest of its name. A repeat, by the same job or of the same file, is none.

    First come the file and what is said of it, then the entry by which requests find it. Raises LoraNameTaken (of a
    name that another one has, without `overwrite`), InvalidRequest, and as the store.
    """
    key, said = (key_of(tenant, lora.name, lora.sha256, ending) for ending in ("safetensors", "json"))
    if not overwrite and run(lambda: _has(tenant, lora)):
        return
    text = lora.model_dump_json()
    store.put(key, data, content_type="application/octet-stream", metadata={"sha256": lora.sha256})
    store.put(said, text.encode(), content_type="application/json")
    try:
        run(lambda: _announce(tenant, lora, text, overwrite=overwrite))
    except LoraNameTaken:  # meanwhile: what nobody can ask for is not to be found again
        store.delete(said)
        store.delete(key)
        raise


def forget(tenant: str, name: str) -> Operation[bool]:
    """The first half of a deletion: from now on no request finds it. Whether there was one."""
    folder_of(tenant, name)
    gone: Any = yield command("HDEL", Key(f"loras:{tenant}"), name)
    return bool(gone)


def delete_files(store: ObjectStore, tenant: str, name: str, *, known: bool) -> int:
    """The second half: all versions; how many there were. `known`: Redis had it. Raises LoraNotFound, and as the store.

    A deletion that was cut off is finished by another one.
    """
    keys = [item.key for item in store.list(folder_of(tenant, name))]
    if not (known or keys):
        raise LoraNotFound(f"tenant {tenant} has no LoRA {name!r}")
    for key in keys:
        store.delete(key)
    return sum(key.endswith(".safetensors") for key in keys)


@dataclass(frozen=True, slots=True)
class Restored:
    """Names (`tenant/name`) whose entries were written, and keys of the store that say nothing that can be read."""

    written: list[str]
    unreadable: list[str]


def restore(run: Run, store: ObjectStore, tenant: str | None = None) -> Restored:
    """Writes the entries that Redis has lost, or has older ones of, from what lies in the store. Raises as the store.

    Of each name the version that came last counts, if its file is there.
    """
    newest: dict[tuple[str, str], OwnLora] = {}
    unreadable = []
    for version, key in _said(store, folder_of(tenant) if tenant else PREFIX):
        found = _read(store.get(key), version)
        if found is None:
            unreadable.append(key)
        else:
            place = version.tenant, version.name
            newest[place] = max(found, newest.get(place, found), key=lambda one: one.made)
    written = [f"{owner}/{name}" for (owner, name), lora in sorted(newest.items()) if run(partial(_mend, owner, lora))]
    return Restored(written, unreadable)


def _read(text: bytes, version: Version) -> OwnLora | None:
    """What is said of this version; None where that cannot be read, or is said of another one."""
    try:
        found = decode(text)
    except ValueError:
        return None
    return found if (found.name, found.sha256) == (version.name, version.sha256) else None


def _mend(tenant: str, lora: OwnLora) -> Operation[bool]:
    """Writes the entry, unless there is one that can be read and is as new."""
    there = yield from read_named([{"tenant": tenant, "loras": [{"name": lora.name}]}])
    known = there[tenant].loras.get(lora.name)
    if known and known.made >= lora.made:
        return False
    yield from _write(tenant, lora)
    return True


def _said(store: ObjectStore, prefix: str) -> Iterator[tuple[Version, str]]:
    """What is said of versions whose files are there, by its keys."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for item in store.list(prefix):
        if version := Version.of(item.key):
            found.setdefault((version.tenant, version.name, version.sha256), set()).add(version.ending)
    for (owner, name, sha256), endings in found.items():
        if endings == {"safetensors", "json"}:
            yield Version(owner, name, sha256, "json"), key_of(owner, name, sha256, "json")


def _has(tenant: str, lora: OwnLora) -> Operation[bool]:
    """Whether this file is there under its name. Raises LoraNameTaken where the name is another's."""
    text = yield command("HGET", Key(f"loras:{tenant}"), lora.name)
    return text is not None and _check_mine(lora.name, text, lora.job, lora.sha256)


def _check_mine(name: str, text: bytes, job: str | None, sha256: str | None = None) -> bool:
    """Whether the entry is of this file. Raises LoraNameTaken where it is neither that nor made by the same job."""
    try:
        there = decode(text)
    except ValueError:
        there = None
    if there is None or not (there.sha256 == sha256 or (job is not None and there.job == job)):
        raise LoraNameTaken(f"there is a LoRA {name!r} already")
    return there.sha256 == sha256


def _announce(tenant: str, lora: OwnLora, text: str, *, overwrite: bool) -> Operation[None]:
    if not overwrite:
        fresh = yield command("HSETNX", Key(f"loras:{tenant}"), lora.name, text)
        if fresh or (yield from _has(tenant, lora)):
            return
    yield from _write(tenant, lora)


def _write(tenant: str, lora: OwnLora) -> Operation[None]:
    yield command("HSET", Key(f"loras:{tenant}"), lora.name, lora.model_dump_json())
