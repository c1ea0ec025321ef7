"""Tables in Markdown from the records, and the marks that they are held against."""

import statistics
from collections.abc import Iterable, Sequence

from bench.serving.record import CellRecord, Round
from bench.serving.sides import LABELS
from bench.serving.trace import Beside
from bench.table import Row

Cells = tuple[str, ...]

P99_FROM = 300  # pictures; of fewer the 99th percentile says nothing
HEAD = ("cell", "side", "pictures/s", "against (a)", "p50", "p90", "p99", "GPU busy", "of the ceiling", "memory, MB")
GAP_HEAD = ("cell", "side", "a step of all images in flight, the denoiser free")
TRACE_HEAD = ("while", "for", "the denoiser ran", "it stood still though calls waited")
MARK_HEAD = ("mark", "value", "bound", "")

#: Throughput of the best Darkroom side against (a) eager and against (a) compiled, at 16 in flight.
GPU_MARKS = {512: (4.0, 1.5), 1024: (1.5, 1.05)}


def tables(records: Sequence[CellRecord]) -> str:
    """All of them, in Markdown."""
    loads = [row for record in records for row in _rows(record)]
    gaps = [row for record in records for row in _gap_rows(record)]
    held: list[Cells] = [(row.what, row.value, row.mark, "ok" if row.met else "MISSED") for row in marks(records)]
    found: list[tuple[Cells, list[Cells]]] = [(HEAD, loads), (GAP_HEAD, gaps), (MARK_HEAD, held)]
    return "\n\n".join([_circumstances(records), *(_markdown(head, rows) for head, rows in found if rows)])


def trace_table(found: Iterable[Beside]) -> str:
    """In Markdown."""
    rows = [(one.what, _seconds(one.seconds), f"{one.ran / one.seconds:.0%}", _seconds(one.stood)) for one in found]
    return _markdown(TRACE_HEAD, rows)


def marks(records: Iterable[CellRecord]) -> list[Row]:
    """Those that these records can say something about."""
    return [row for record in records for row in _marks(record)]


def percentile(values: Sequence[float], share: float) -> float:
    """Between the two nearest values, linearly."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def rate(rounds: Sequence[Round]) -> float:
    """Pictures a second; the median of the rounds."""
    return statistics.median(one.rate for one in rounds)


def rate_ratio(record: CellRecord, side: str, base: str) -> float | None:
    """Median over rounds of one side's rate to another's, None where either has none."""
    pairs = list(zip(record.sides.get(side, []), record.sides.get(base, []), strict=False))
    return statistics.median(one.rate / other.rate for one, other in pairs) if pairs else None


def latency_ratio(record: CellRecord, side: str, base: str, share: float) -> float | None:
    """Median over rounds of one side's latency at a percentile to another's, None where either has none."""
    pairs = list(zip(record.sides.get(side, []), record.sides.get(base, []), strict=False))
    found = [percentile(one.latencies, share) / percentile(other.latencies, share) for one, other in pairs]
    return statistics.median(found) if found else None


def _rows(record: CellRecord) -> list[Cells]:
    if record.kind == "gap":
        return []
    return [
        (record.cell, LABELS[side], *_numbers(record, side, rounds)) for side, rounds in record.sides.items() if rounds
    ]


def _numbers(record: CellRecord, side: str, rounds: list[Round]) -> Cells:
    latencies = [value for one in rounds for value in one.latencies]
    work = statistics.median(one.tflop / one.seconds for one in rounds)
    busy = [one.busy for one in rounds if one.busy is not None]
    device = [one.gpu_memory for one in rounds if one.gpu_memory is not None]
    memory = device or ([one.rss for one in rounds] if record.device == "cpu" else [])
    return (
        f"{rate(rounds):.3g}",
        _against(record, side, "stock" if "stock" in record.sides else "stock-compiled"),
        _seconds(percentile(latencies, 0.5)),
        _seconds(percentile(latencies, 0.9)),
        _seconds(percentile(latencies, 0.99)) if len(latencies) >= P99_FROM else "",
        f"{statistics.mean(busy):.0%}" if busy else "",
        f"{work / record.ceiling:.0%}" if record.ceiling else "",
        f"{max(memory):,.0f}" if memory else "",
    )


def _against(record: CellRecord, side: str, base: str) -> str:
    """By what the load is about: of a closed one the rate, of one at a time p50, of an open one p90."""
    shares = {"alone": 0.5, "open": 0.9}
    if record.kind in shares:
        share = shares[record.kind]
        ratio, what = latency_ratio(record, side, base, share), f"p{share * 100:.0f}"
    else:
        ratio, what = rate_ratio(record, side, base), "rate"
    return f"{ratio:.2f} of its {what}" if ratio is not None else ""


def _gap_rows(record: CellRecord) -> list[Cells]:
    found = {side: [one.gap for one in rounds if one.gap is not None] for side, rounds in record.sides.items()}
    return [
        (record.cell, LABELS[side], f"{statistics.median(gaps) * 1000:.1f} ms") for side, gaps in found.items() if gaps
    ]


def _marks(record: CellRecord) -> list[Row]:
    """By the cell's name, so that a trial with a tiny geometry is held against nothing."""
    stem, _, kind = record.cell.partition("-")
    if stem == "cpu":
        return {"16": _cpu_throughput, "alone": _cpu_alone}.get(kind, lambda _: [])(record)
    size, _, kind = kind.partition("-")
    if kind == "loras":
        return _adapted(record)
    if kind == "16":
        return _gpu_throughput(record, *GPU_MARKS[int(size)])
    if kind.startswith("alone") and not kind.endswith("tiny"):
        suffix = kind.removeprefix("alone")
        return _at_most(record, "alone", latency_ratio(record, f"darkroom{suffix}", f"stock{suffix}", 0.5), 1.03)
    if kind == "poisson-80" and size == "512":
        return _at_most(record, "p90", latency_ratio(record, "darkroom", "stock", 0.9), 0.5)
    return []


def _cpu_throughput(record: CellRecord) -> list[Row]:
    return _at_least(record, "throughput against (a)", rate_ratio(record, "darkroom", "stock"), 1.0)


def _cpu_alone(record: CellRecord) -> list[Row]:
    return _at_most(record, "alone", latency_ratio(record, "darkroom", "stock", 0.5), 1.05)


def _gpu_throughput(record: CellRecord, eager: float, compiled: float) -> list[Row]:
    rows = []
    for base, bound in (("stock", eager), ("stock-compiled", compiled)):
        found = [rate_ratio(record, side, base) for side in ("darkroom", "darkroom-compiled")]
        best = max((value for value in found if value is not None), default=None)
        rows += _at_least(record, f"throughput against {LABELS[base]}", best, bound)
    return rows


def _adapted(record: CellRecord) -> list[Row]:
    return [
        *_at_least(record, "with LoRAs against without", rate_ratio(record, "loras", "darkroom"), 0.9),
        *_at_least(record, "with a bank that is empty against none", rate_ratio(record, "bank", "darkroom"), 0.99),
    ]


def _at_least(record: CellRecord, what: str, value: float | None, bound: float) -> list[Row]:
    return [] if value is None else [Row(f"{record.cell}: {what}", f"{value:.3f}", f">= {bound:g}", value >= bound)]


def _at_most(record: CellRecord, what: str, value: float | None, bound: float) -> list[Row]:
    if value is None:
        return []
    return [Row(f"{record.cell}: latency {what} against (a)", f"{value:.3f}", f"<= {bound:g}", value <= bound)]


def _circumstances(records: Sequence[CellRecord]) -> str:
    lines = []
    for machine in dict.fromkeys(record.machine for record in records):
        cells = [record for record in records if record.machine == machine]
        names = ", ".join(record.cell + ("" if record.complete else " (unfinished)") for record in cells)
        rates = [record.ceiling for record in cells if record.ceiling]
        ceiling = f"; matrix products at {statistics.median(rates):.3g} TFLOP/s" if rates else ""
        where = machine.gpu or f"{machine.processor}, {machine.cores} cores"
        apart = max(map(_apart, cells))
        lines.append(
            f"On {where}, {machine.versions}{ceiling}: {names}. "
            f"The same picture by all sides: thumbnails differ by {apart} of 255 at most."
        )
    return "\n".join(lines)


def _apart(record: CellRecord) -> int:
    """How far the same picture of two sides is apart, at most."""
    return max((max(values) - min(values) for values in zip(*record.looks.values(), strict=True)), default=0)


def _markdown(head: Cells, rows: Iterable[Cells]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *rows))


def _seconds(value: float) -> str:
    return f"{value:.3g} s"
