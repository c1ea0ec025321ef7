"""LoRAs that belong to a tenant: of no job's record, and of nobody else's business.

    loras:{tenant}  hash  name -> what there is of its newest version (JSON, `darkroom.tasks.adapters.OwnLora`)

In the store a version is `loras/{tenant}/{name}/{sha256}.safetensors`, with the same JSON beside it (`.json`). Older
versions stay there: jobs that were submitted with one of them, and replays, ask for it by its digest.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from darkroom.tasks.adapters import LoraOffer, OwnLora, UnreadableLora
from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import Fault, InvalidRequest, QueueBroken
from darkroom.tasks.families import NAME
from darkroom.tasks.fields import TENANT
from darkroom.tasks.redis_io import Key, Operation, command
from darkroom.tasks.requests import JobRequest
from darkroom.tasks.requests.loras import Lora

PREFIX = "loras/"
MOST_BYTES = 2 << 30  # of a file; one of SDXL's with rank 128 and convolutions, in float32, has 1.8 GB

_NAME = re.compile(NAME)
_VERSION = re.compile(r"loras/([^/]+)/([^/]+)/([0-9a-f]{64})\.(safetensors|json)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Owned:
    """A tenant's LoRAs by name, or those of them that were asked for; the names of those that cannot be read."""

    loras: Mapping[str, OwnLora] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()

    @property
    def offers(self) -> list[LoraOffer]:
        """As requests may name them."""
        broken = [UnreadableLora(name=name, sha256="0" * 64, rank=1) for name in sorted(self.unreadable)]
        return [*self.loras.values(), *broken]


#: By tenant.
Belongings = Mapping[str, Owned]


@dataclass(frozen=True, slots=True)
class Version:
    """What a key in the store names."""

    tenant: str
    name: str
    sha256: str
    ending: str

    @classmethod
    def of(cls, key: str) -> "Version | None":
        """None for keys of other things."""
        match = _VERSION.fullmatch(key)
        return cls(*match.groups()) if match else None


def folder_of(tenant: str, name: str = "") -> str:
    """Where in the store the tenant's LoRAs lie, or the versions of one. Raises InvalidRequest for what is no name."""
    faults = []
    if not TENANT.fullmatch(tenant):
        faults.append(Fault("tenant", "invalid_value", f"{tenant[:64]!r} is no tenant's name"))
    if name and not _NAME.fullmatch(name):
        why = "a LoRA's name has small letters, digits, dots, hyphens and underscores, 64 at most, and is never a path"
        faults.append(Fault("name", "not_a_name", f"{name[:64]!r}: {why}"))
    if faults:
        raise InvalidRequest(faults)
    return f"{PREFIX}{tenant}/{name}/" if name else f"{PREFIX}{tenant}/"


def key_of(tenant: str, name: str, sha256: str, ending: str = "safetensors") -> str:
    """The key of a version's file, or of what is said of it (`json`). Raises InvalidRequest for what is no name."""
    if not _SHA256.fullmatch(sha256):
        raise InvalidRequest([Fault("sha256", "invalid_value", f"{sha256[:64]!r} is no SHA-256")])
    return f"{folder_of(tenant, name)}{sha256}.{ending}"


def decode(text: bytes | str) -> OwnLora:
    """An entry as some release wrote it, without what this one does not know. Raises ValueError."""
    try:
        said = json.loads(text)
        return OwnLora.model_validate({name: said[name] for name in OwnLora.model_fields if name in said})
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"no entry of a LoRA: {error!r}") from None


def asked_of(request: object) -> tuple[str, list[str]]:
    """Whose LoRAs a request names, and which: all that can be read, whatever else is wrong with it."""
    if isinstance(request, JobRequest):
        tenant, loras = request.readable("tenant"), request.readable("loras")
    elif isinstance(request, Mapping):
        tenant, loras = request.get("tenant", "default"), request.get("loras")
    else:
        return "", []
    several = isinstance(loras, Sequence) and not isinstance(loras, str)
    names = [name for one in (loras if several else [loras]) if (name := _named(one))]
    return (tenant, names) if isinstance(tenant, str) and TENANT.fullmatch(tenant) else ("", [])


def read_named(requests: Iterable[object]) -> Operation[Belongings]:
    """What the tenants have of the LoRAs that these requests name; where none are named, nothing is asked."""
    wanted: dict[str, dict[str, None]] = {}
    for request in requests:
        tenant, names = asked_of(request)
        if names:
            wanted.setdefault(tenant, {}).update(dict.fromkeys(names))
    if not wanted:
        return {}
    replies = yield [command("HMGET", Key(f"loras:{tenant}"), *names, alone=True) for tenant, names in wanted.items()]
    found = {}
    for (tenant, some), reply in zip(wanted.items(), replies, strict=True):
        # A key of another type in this place says nothing of what the tenant has.
        said = [b""] * len(some) if isinstance(reply, QueueBroken) else reply
        found[tenant] = _owned(zip(some, said, strict=True))
    return found


def read_all(tenant: str) -> Operation[Owned]:
    """All that the tenant has. Raises InvalidRequest for what is no tenant's name."""
    folder_of(tenant)
    reply = yield command("HGETALL", Key(f"loras:{tenant}"))
    return _owned((name.decode(errors="replace"), text) for name, text in reply.items())


def seen_by(offer: ModelOffer, own: Sequence[LoraOffer]) -> ModelOffer:
    """The offer as a tenant sees it: with its own LoRAs, those for other models too (`lora_of` tells them apart)."""
    return offer.model_copy(update={"loras": [*own, *offer.loras]}) if own else offer


def _owned(pairs: Iterable[tuple[str, bytes | None]]) -> Owned:
    loras, unreadable = {}, set()
    for name, text in pairs:
        if text is None:
            continue
        try:
            found = decode(text)
        except ValueError:
            found = None
        if found is None or found.name != name:
            unreadable.add(name)
        else:
            loras[name] = found
    return Owned(loras, frozenset(unreadable))


def _named(one: Any) -> str | None:
    """The name of what may be a LoRA of a request."""
    if isinstance(one, Lora):
        return one.name
    name = one.get("name") if isinstance(one, Mapping) else one
    if not isinstance(name, str):
        return None
    name = name if isinstance(one, Mapping) else name.partition(":")[0]
    return name if _NAME.fullmatch(name) else None
