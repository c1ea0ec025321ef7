"""Model calls before the first job: what each bucket costs, and whether a row's bits are its own in it."""

import time
from typing import Any

import structlog
import torch

from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Place, Placements, Script, Ticket
from darkroom.worker.batching.stacking import Call

VARIATION = 0.1  # of standard deviation; rows that were alike would hide that they changed places


def warm_buckets(engine: Engine, call: Call, most_seconds: float) -> None:
    """Runs the denoiser call with as many rows as each bucket has, the smallest first, while the time allows.

    The engine measures time and memory as it does in service. A bucket in which other rows change a row's bits is
    dropped: what is recorded would not give them again. One in which the row's place does is dropped while most are
    better (a product of six rows was seen to be so). Where most are not, as on three CPU threads, which share no power
    of two evenly, that would leave nothing to stack in: the recorded places have to do.
    """
    began = last = time.monotonic()
    company: list[int] = []
    place: list[int] = []
    tried = 0
    for bucket in _buckets(engine, call):
        now = time.monotonic()
        if now - began + 2 * (now - last) > most_seconds:  # twice the rows take at most twice as long
            break
        last = now
        wanted = Placements()
        for _ in range(3):
            wanted.add([Place(bucket, 0, bucket, call.widths)])
        with engine.image(script=Script(str(wanted))) as ticket:
            same, moved = _compared(engine, call, bucket, ticket)
        if str(ticket.placements) != str(wanted):
            break  # memory does not suffice; the engine has taken note of it
        tried += 1
        seconds = round(time.monotonic() - last, 2)
        structlog.get_logger().info("batch.bucket_tried", bucket=bucket, seconds=seconds)  # compiling takes minutes
        company += [] if same else [bucket]
        place += [] if moved else [bucket]
    _drop(engine, call, {*company, *(place if 2 * len(place) < tried else [])})


def _buckets(engine: Engine, call: Call) -> list[int]:
    rows = range(1, engine.call(engine.policy.cap, call.group) + 1)
    return sorted({engine.call(engine.policy.bucket_for, call.group, count) for count in rows})


def _drop(engine: Engine, call: Call, buckets: set[int]) -> None:
    for bucket in sorted(buckets):
        engine.call(engine.policy.drop, bucket, call.group)
        structlog.get_logger().warning("batch.bucket_dropped", bucket=bucket)


def _compared(engine: Engine, call: Call, bucket: int, ticket: Ticket) -> tuple[bool, bool]:
    """Whether rows keep their bits beside others, and when each moves to the next place, the last to the first."""
    draw = torch.Generator().manual_seed(0)
    rows = call.with_rows(bucket, lambda tensor: _varied(tensor, bucket, draw))
    beside = rows.with_rows(bucket, _every_other_row_changed)
    moved = rows.with_rows(bucket, lambda tensor: tensor.roll(1, 0))
    found = [_tensor(engine.denoise(it.module, *it.tree, ticket, it.extras)) for it in (rows, beside, moved)]
    return torch.equal(found[0][::2], found[1][::2]), torch.equal(found[0].roll(1, 0), found[2])


def _varied(tensor: torch.Tensor, rows: int, draw: torch.Generator) -> torch.Tensor:
    alike = tensor[:1].expand(rows, *tensor.shape[1:])
    if not tensor.is_floating_point():
        return alike
    return alike + VARIATION * torch.randn(alike.shape, generator=draw).to(tensor)


def _every_other_row_changed(tensor: torch.Tensor) -> torch.Tensor:
    other = tensor.clone()
    other[1::2] = tensor[1::2].flip(0).flip(-1) if tensor.dim() > 1 else tensor[1::2].flip(0)
    return other


def _tensor(result: Any) -> torch.Tensor:
    found: torch.Tensor = result if isinstance(result, torch.Tensor) else result[0]
    return found
