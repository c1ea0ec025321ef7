"""What tenants may: their weights and limits, and what is paused. `scripts/shared/turns.lua` goes by it."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.fields import TENANT
from darkroom.tasks.job import canonical_id
from darkroom.tasks.redis_io import Key, Operation, command, script

MOST_TENANTS = 1000  # that are listed

Count = Annotated[int, Field(ge=1, le=10_000_000)]
Paused = Literal["tenant", "model"]
MoveAnswer = Literal["moved", "not_waiting", "not_found"]


class Limits(BaseModel):
    """Of a tenant. None: no limit, or what all have."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weight: float = Field(default=1.0, ge=0.001, le=1000, description="of its share, beside the weights of others")
    max_running: Count | None = Field(default=None, description="jobs that run at a time")
    max_queued: Count | None = Field(
        default=None, description="jobs that wait; default: a tenth of DARKROOM_QUEUE_LIMIT"
    )
    user_max_running: Count | None = Field(default=None, description="the same of each of its users")
    user_max_queued: Count | None = Field(default=None, description="the same of each of its users")


@dataclass(frozen=True, slots=True)
class TenantUse:
    """A tenant, its limits, and its jobs; `limits` is None where what is kept of them cannot be read."""

    name: str
    limits: Limits | None
    paused: bool
    queued: int
    running: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        limits = self.limits.model_dump() if self.limits else None
        return {"name": self.name, "queued": self.queued, "running": self.running, "paused": self.paused,
                "limits": limits}  # fmt: skip


def limits(**given: Any) -> Limits:
    """Raises InvalidRequest with every fault."""
    try:
        return Limits(**given)
    except ValidationError as error:
        faults = [Fault(str(one["loc"][0]), one["type"], one["msg"]) for one in error.errors(include_url=False)]
        raise InvalidRequest(faults) from None


def set_limits(tenant: str, found: Limits) -> Operation[None]:
    """From the next start on; what runs goes on. Raises InvalidRequest."""
    check_tenant(tenant)
    kept = found.model_dump(exclude_defaults=True)
    yield script("limit", "tenant", tenant, json.dumps(kept) if kept else "", "")


def read_limits(tenant: str) -> Operation[Limits]:
    """What is set of a tenant; what cannot be read is as if it were not. Raises InvalidRequest."""
    check_tenant(tenant)
    kept = yield command("HGET", Key("tenants"), tenant)
    return _read(kept or b"{}") or Limits()


def list_tenants() -> Operation[list[TenantUse]]:
    """Those of which something is set, and those with jobs that wait or run; by name."""
    rows = yield script("tenants", MOST_TENANTS)
    return sorted((_use(*row) for row in rows), key=lambda use: use.name)


def pause(what: Paused, name: str) -> Operation[None]:
    """Nothing of the tenant, or with the model, is started any more; what runs goes on, and deadlines hold."""
    if what == "tenant":
        check_tenant(name)
    yield script("limit", what, name, "", "pause")


def resume(what: Paused, name: str) -> Operation[None]:
    """Takes a pause back."""
    yield script("limit", what, name, "", "resume")


def move_to_front(job_id: str, tenant: str | None = None) -> Operation[MoveAnswer]:
    """Lets a job that waits go before all others of its tenant. `tenant`: jobs of others are not found."""
    reply = yield script("front", canonical_id(job_id), tenant or "")
    answer: MoveAnswer = reply.decode()
    return answer


def _use(name: bytes, kept: bytes, paused: bytes, queued: int, running: int) -> TenantUse:
    found = _read(kept or b"{}")
    return TenantUse(name.decode(errors="replace"), found, paused == b"1", int(queued), int(running))


def _read(kept: bytes) -> Limits | None:
    try:
        return Limits.model_validate_json(kept)
    except ValidationError:
        return None


def check_tenant(tenant: str) -> None:
    """Raises InvalidRequest."""
    if not TENANT.fullmatch(tenant):
        raise InvalidRequest([Fault("tenant", "invalid_value", f"{tenant[:80]!r} is no tenant's name")])
