"""Records, what is read from them, and the tables."""

from pathlib import Path

import pytest

from bench.serving.cells import CELLS, tiny
from bench.serving.machine import this_machine
from bench.serving.plots import latency, throughput
from bench.serving.record import CellRecord, Round, load_record
from bench.serving.report import latency_ratio, marks, percentile, rate_ratio, tables
from bench.serving.sides import LABELS


def rounds(*rates: float, count: int = 20) -> list[Round]:
    """Pictures that follow one another at these rates."""
    made = []
    for rate in rates:
        samples = [(0.0, (index + 1) / rate) for index in range(count)]
        made.append(Round(samples=samples, seconds=count / rate, tflop=count * 2.0, rss=500.0))
    return made


def record(cell: str, kind: str = "flight", share: float | None = None, **sides: list[Round]) -> CellRecord:
    named = {name.replace("_", "-"): found for name, found in sides.items()}
    return CellRecord(
        cell=cell, kind=kind, model="m", device="cpu", dtype="float32", machine=this_machine(), threads=0,
        settings={}, sizes=[64], steps=[2], ceiling=100.0, wanted=2, share=share, sides=named,
    )  # fmt: skip


def test_percentiles_lie_between_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([0.0, 10.0], 0.9) == pytest.approx(9.0)
    assert percentile([4.0], 0.99) == 4.0


def test_ratios_are_medians_of_rounds_side_by_side() -> None:
    found = record("cpu-16", stock=rounds(1, 2, 4), darkroom=rounds(2, 2, 100))
    assert rate_ratio(found, "darkroom", "stock") == pytest.approx(2.0)
    assert latency_ratio(found, "darkroom", "stock", 0.5) == pytest.approx(0.5)
    assert rate_ratio(found, "batched", "stock") is None


@pytest.mark.parametrize(("ours", "met"), [(3.0, True), (1.9, False)])
def test_the_cpu_mark(ours: float, met: bool) -> None:
    (mark,) = marks([record("cpu-16", stock=rounds(2, 2), darkroom=rounds(ours, ours))])
    assert mark.met is met


def test_gpu_marks_take_the_best_of_our_sides_and_hold_no_trial() -> None:
    sides = {"stock": rounds(1), "stock_compiled": rounds(2), "darkroom": rounds(2), "darkroom_compiled": rounds(4)}
    found = marks([record("sdxl-512-16", **sides), record("sdxl-512-16-tiny", **sides), record("sdxl-mixed", **sides)])
    assert [(mark.value, mark.mark, mark.met) for mark in found] == [
        ("4.000", ">= 4", True),
        ("2.000", ">= 1.5", True),
    ]


def test_p99_is_told_from_300_pictures_on() -> None:
    few, many = record("a", stock=rounds(1, 1)), record("b", stock=rounds(1, 1, count=150))
    text = tables([few, many])
    columns = {line.split(" | ")[0]: line.split(" | ") for line in text.splitlines() if LABELS["stock"] in line}
    assert columns["| a"][6].strip() == ""
    assert columns["| b"][6].endswith(" s")


def test_the_tables_name_cells_that_are_not_finished_and_shares_of_the_ceiling() -> None:
    text = tables([record("cpu-16", stock=rounds(5, 5), darkroom=rounds(10))])
    assert "cpu-16 (unfinished)" in text
    assert "| 10% |" in text
    assert "throughput against (a) | 2.000 | >= 1 | ok" in text


def test_plots_are_drawn_where_there_is_something() -> None:
    closed = record("cpu-16", stock=rounds(5), darkroom=rounds(10))
    opened = [record(f"cpu-poisson-{share}", "open", share / 100, stock=rounds(5)) for share in (50, 80)]
    assert throughput([closed]) is not None
    assert latency(opened) is not None
    assert throughput(opened) is None
    assert latency([closed]) is None


def test_a_record_comes_back_and_goes_on_only_where_all_is_the_same(tmp_path: Path) -> None:
    begun = record("cpu-16", stock=rounds(5))
    begun.save(tmp_path)
    read = load_record(tmp_path, "cpu-16")
    assert read == begun
    assert not read.complete
    assert read.goes_on(record("cpu-16", stock=[]))
    assert not read.goes_on(record("cpu-16", stock=[], darkroom=[]))
    assert not read.goes_on(record("cpu-16", stock=[]).model_copy(update={"threads": 1}))
    assert load_record(tmp_path, "cpu-alone") is None


def test_cells_have_names_that_tell_them_apart_and_tiny_twins() -> None:
    for cell in CELLS.values():
        small = tiny(cell, "cpu")
        assert small.name not in CELLS
        assert (small.kind, small.sides, len(small.sizes)) == (cell.kind, cell.sides, len(cell.sizes))
        assert set(cell.sides) <= set(LABELS)
        assert cell.about
        if cell.capacity_from:
            assert cell.sides[0] in CELLS[cell.capacity_from].sides
