"""A batch as it was when read, and its jobs."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict

from darkroom.tasks.errors import QueueBroken
from darkroom.tasks.job import State

# The id of a batch follows from its tenant and its name: whoever says them again means the same one.
_BATCHES = UUID("c0bedefb-24eb-4fff-942d-60cdc56ab7fe")


class BatchState(StrEnum):
    """Where a batch is in its life. Jobs of a `canceled` or `expired` one may still run, until `Batch.ended_at`."""

    OPEN = "open"
    SEALED = "sealed"
    COMPLETED = "completed"
    CANCELED = "canceled"
    EXPIRED = "expired"


class BatchItem(NamedTuple):
    """A job of a batch, under the name that it has there."""

    custom_id: str
    job_id: str
    state: State


class Batch(BaseModel):
    """A batch as it was when read. `counts` has all states of jobs; `last`: the job that its end releases."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    tenant: str
    state: BatchState
    counts: dict[State, int]
    total: int
    metadata: dict[str, Any]
    created_at: datetime
    sealed_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None
    last: str | None = None

    @classmethod
    def decode(cls, batch_id: str, fields: Mapping[bytes, bytes]) -> Self:
        """From its hash. Raises QueueBroken where it is not one of ours."""
        try:
            text = {key.decode(): value.decode() for key, value in fields.items()}
            return cls(
                id=batch_id,
                name=text["name"],
                tenant=text["tenant"],
                state=_state(text),
                counts={state: int(text.get(f"n/{state}", 0)) for state in State},
                total=int(text["total"]),
                metadata=json.loads(text["metadata"]),
                created_at=_time(text["created"]),
                sealed_at=_time(text["sealed"]) if "sealed" in text else None,
                ended_at=_time(text["ended"]) if "ended" in text else None,
                reason=text.get("reason"),
                last=text.get("last"),
            )
        except (KeyError, ValueError, OverflowError, OSError, RecursionError) as error:
            raise QueueBroken(f"the batch {batch_id} cannot be read: {error!r}") from None


def id_of(tenant: str, name: str) -> str:
    """The id of the tenant's batch of this name."""
    return str(uuid5(_BATCHES, f"{tenant}/{name}"))


def _state(text: Mapping[str, str]) -> BatchState:
    for mark in (BatchState.CANCELED, BatchState.EXPIRED):
        if mark in text:
            return mark
    return BatchState.COMPLETED if "ended" in text else BatchState.SEALED if "sealed" in text else BatchState.OPEN


def _time(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(float(milliseconds) / 1000, UTC)
