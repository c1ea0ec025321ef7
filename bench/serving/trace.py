"""What a trace of Darkroom's worker shows: what ran beside the denoiser, and whether that stood still for it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Interval = tuple[float, float]  # seconds
Event = dict[str, Any]

#: Names of the worker's spans, and what they are.
WORK = {
    "darkroom.call encode": "text encoders",
    "darkroom.call moments": "VAE encoder",
    "darkroom.call decode": "VAE decoder",
    "darkroom.encode": "PNG encoding",
    "darkroom.store": "storing",
}
_BATCH, _ASKED = "darkroom.batch", "darkroom.denoise"
_HOST, _DEVICE = "user_annotation", "gpu_user_annotation"


@dataclass(frozen=True)
class Beside:
    """One kind of work, in seconds: how long it was done, how long the denoiser ran meanwhile, and how long it stood

    still meanwhile though calls were there for it. Work of several threads at a time counts once.
    """

    what: str
    seconds: float
    ran: float
    stood: float


def shorten(path: Path) -> None:
    """Leaves out the single operations of the host, which are most of a trace and say nothing here."""
    trace = json.loads(path.read_bytes())
    trace["traceEvents"] = [event for event in trace["traceEvents"] if event.get("cat") not in ("cpu_op", "ac2g")]
    path.write_text(json.dumps(trace))


def beside(path: Path) -> list[Beside]:
    """All kinds of work that the trace has, first of all the whole from the first denoiser call to the last.

    On a GPU model calls last as long as their kernels. Raises ValueError where no denoiser call is in the trace.
    """
    events = json.loads(path.read_bytes())["traceEvents"]
    ran = _spans(events, _BATCH)
    if not ran:
        raise ValueError(f"no denoiser call in {path}")
    whole = [(ran[0][0], ran[-1][1])]
    stood = _without(_both(_spans(events, _ASKED), whole), ran)
    kinds = {"all of the time": whole, **{what: _both(_spans(events, name), whole) for name, what in WORK.items()}}
    return [
        Beside(what, _length(spans), _length(_both(spans, ran)), _length(_both(spans, stood)))
        for what, spans in kinds.items()
        if spans
    ]


def _spans(events: Iterable[Event], name: str) -> list[Interval]:
    """The union of spans whose names begin so; on the device where the trace has that of them, else on the host."""
    found: dict[str, list[Interval]] = {_HOST: [], _DEVICE: []}
    for event in events:
        if event.get("cat") in found and event["name"].startswith(name):
            start = float(event["ts"]) / 1e6
            found[event["cat"]].append((start, start + float(event["dur"]) / 1e6))
    return _union(found[_DEVICE] or found[_HOST])


def _union(spans: Iterable[Interval]) -> list[Interval]:
    joined: list[Interval] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def _both(one: Sequence[Interval], other: Sequence[Interval]) -> list[Interval]:
    """Of two unions what is in both."""
    found, left, right = [], 0, 0
    while left < len(one) and right < len(other):
        start, end = max(one[left][0], other[right][0]), min(one[left][1], other[right][1])
        if start < end:
            found.append((start, end))
        if one[left][1] < other[right][1]:
            left += 1
        else:
            right += 1
    return found


def _without(one: Sequence[Interval], other: Sequence[Interval]) -> list[Interval]:
    """Of one union what is not in the other."""
    edges = [float("-inf"), *(edge for span in other for edge in span), float("inf")]
    return _both(one, list(zip(edges[::2], edges[1::2], strict=True)))


def _length(spans: Iterable[Interval]) -> float:
    return sum(end - start for start, end in spans)
