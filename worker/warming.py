"""Model calls before the first job: what each bucket costs, and whether a row's place in it changes the row's bits."""

import time
from typing import Any

import structlog
import torch

from darkroom.worker.engine import Engine
from darkroom.worker.placements import Script, Ticket
from darkroom.worker.stacking import Call, Tree, joined

VARIATION = 0.1  # of standard deviation; rows that were alike would hide that they changed places


def warm_buckets(engine: Engine, call: Call, most_seconds: float) -> None:
    """Runs the denoiser call with as many rows as each bucket has, the smallest first, while the time allows.

    The engine measures time and memory as it does in service. A bucket in which rows that trade places come out with
    other bits is dropped: a matrix product of six rows was seen to do so.
    """
    began = last = time.monotonic()
    for bucket in _buckets(engine, call):
        now = time.monotonic()
        if now - began + 2 * (now - last) > most_seconds:  # twice the rows take at most twice as long
            return
        last = now
        with engine.image(script=Script(f"3x{bucket}:0")) as ticket:
            steady = _is_steady(engine, call, bucket, ticket)
        if str(ticket.placements) != f"3x{bucket}:0":
            return  # memory does not suffice; the engine has taken note of it
        if not steady:
            engine.call(engine.policy.drop, bucket)
            structlog.get_logger().warning("batch.bucket_dropped", bucket=bucket)


def _buckets(engine: Engine, call: Call) -> list[int]:
    rows = range(1, engine.call(engine.policy.cap, call.group) + 1)
    return sorted({engine.call(engine.policy.bucket_for, call.group, count) for count in rows})


def _is_steady(engine: Engine, call: Call, bucket: int, ticket: Ticket) -> bool:
    """Whether rows keep their bits when each moves to the next place, and the last to the first."""
    draw = torch.Generator().manual_seed(0)
    rows: Tree = joined([call.tree], lambda tensors: _varied(tensors[0], bucket, draw))
    moved: Tree = joined([rows], lambda tensors: tensors[0].roll(1, 0))
    first, second, _ = (_tensor(engine.denoise(call.module, *given, ticket)) for given in (rows, moved, moved))
    return torch.equal(first.roll(1, 0), second)


def _varied(tensor: torch.Tensor, rows: int, draw: torch.Generator) -> torch.Tensor:
    alike = tensor[:1].expand(rows, *tensor.shape[1:])
    if not tensor.is_floating_point():
        return alike
    return alike + VARIATION * torch.randn(alike.shape, generator=draw).to(tensor)


def _tensor(result: Any) -> torch.Tensor:
    found: torch.Tensor = result if isinstance(result, torch.Tensor) else result[0]
    return found
