"""Pictures beside a stock worker: `python -m bench.serve --list`, `--cell`, `--trace`, `--report`, `--quick`."""

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from bench.serving.cells import CELLS, Cell, tiny
from bench.serving.drive import SideSilent
from bench.serving.machine import gpu_name
from bench.serving.plots import latency, throughput
from bench.serving.program import SideFailed
from bench.serving.quick import quick
from bench.serving.record import load_records
from bench.serving.report import tables, trace_table
from bench.serving.run import Options, Unfinished, run_cell, run_cells, tell, trace_cell
from bench.serving.sides import LABELS
from bench.serving.trace import beside, shorten
from bench.table import Row, show
from darkroom.worker.settings import WorkerSettings

OUT = Path(__file__).parent / "results" / "serve"
CACHE = Path.home() / ".cache" / "darkroom" / "bench"
EXIT_UNFINISHED = 75  # sysexits.h, EX_TEMPFAIL: run it again


def measure() -> list[Row]:
    """The CPU marks; what `python -m bench serve` prints."""
    try:
        return quick("starter", Options(OUT, CACHE))
    except (SideFailed, SideSilent) as error:
        return [Row("serving pictures", str(error), "works", met=False)]


def main() -> int:
    """One of the four. Exit codes: 1 where a mark is missed or a side failed, 75 where a cell is to be gone on with."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no worker is left behind
    asked = _arguments()
    options = Options(
        asked.out, asked.cache, asked.threads, asked.minutes, again=asked.again, settings=dict(asked.set)
    )  # fmt: skip
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(asked.cache / "inductor"))
    if asked.list:
        print("\n".join(f"{cell.name:28} {cell.about}" for cell in CELLS.values()))
        return 0
    if asked.report:
        return _report(asked.out)
    try:
        if asked.quick:
            return _quick(asked.model or "starter", options)
        return _trace(_cell(CELLS[asked.trace], asked), options) if asked.trace else _run(_cells(asked), options)
    except (SideFailed, SideSilent) as error:
        tell(str(error))
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="name the cells")
    what.add_argument("--cell", choices=CELLS, metavar="NAME", nargs="+",
                      help="run a cell, or go on with it; the sides of several are started once")  # fmt: skip
    what.add_argument("--trace", choices=CELLS, metavar="NAME", help="what a worker does beside its denoiser calls: a "
                      "trace for Perfetto of some of a cell's pictures, and a table of it")  # fmt: skip
    what.add_argument("--report", action="store_true", help="print the tables and write the plots of what is there")
    what.add_argument("--quick", action="store_true", help="the CPU marks, within a minute")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the cells' JSON (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of models that are made here (%(default)s)")
    parser.add_argument("--model", help="another model: of the catalogue, tiny-sdxl, tiny-sd, random-sdxl or random-sd")
    parser.add_argument("--geometry", choices=["tiny"], help="a tiny model and load instead, on whatever there is")
    parser.add_argument("--sides", help="only these of each cell's own, comma separated")
    parser.add_argument("--rounds", type=_count, help="as many of each side, instead of the cell's own")
    parser.add_argument("--seconds", type=float, help="of a round, in which pictures are asked for")
    parser.add_argument("--threads", type=_count, default=0, help="CPU threads of every side; 0: all cores")
    parser.add_argument("--minutes", type=float, default=7.5, help="no round begins that would end after this")
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="NAME=VALUE",
                        help="of Darkroom's worker, such as max_batch=16")  # fmt: skip
    parser.add_argument("--again", action="store_true", help="anew, also where the cell is complete")
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of something")
    return int(text)


def _setting(text: str) -> tuple[str, str]:
    """Also with the prefix that the variable has."""
    name, equals, value = text.partition("=")
    name = name.lower().removeprefix("darkroom_")
    if not equals or name not in WorkerSettings.model_fields:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, of {', '.join(WorkerSettings.model_fields)}")
    return name, value


def _cells(asked: argparse.Namespace) -> list[Cell]:
    """The cells as asked for. Ends the program where they cannot be run here, or not together."""
    cells = [_cell(CELLS[name], asked) for name in asked.cell]
    if len(cells) > 1 and len({(cell.model, cell.device, cell.kind == "gap") for cell in cells}) > 1:
        sys.exit("cells of one model on one device can be run together, and none with a free denoiser beside others")
    return cells


def _cell(cell: Cell, asked: argparse.Namespace) -> Cell:
    gpu = gpu_name()
    if asked.geometry:
        cell = tiny(cell, "cuda" if gpu and cell.device == "cuda" else "cpu")
    elif cell.device == "cuda" and not gpu:
        sys.exit(f"{cell.name} needs a CUDA device; --geometry tiny tries it without")
    if asked.model:
        cell = replace(cell, model=asked.model)
    if asked.sides:
        wanted = asked.sides.split(",")
        if unknown := set(wanted) - LABELS.keys():
            sys.exit(f"no such side: {', '.join(sorted(unknown))}; there are: {', '.join(LABELS)}")
        cell = replace(cell, sides=tuple(side for side in cell.sides if side in wanted))
    if not cell.sides or (asked.trace and not any(side.startswith("darkroom") for side in cell.sides)):
        sys.exit(f"{cell.name} has none of these sides" + (": only Darkroom's are traced" if asked.trace else ""))
    return replace(cell, rounds=asked.rounds or cell.rounds, seconds=asked.seconds or cell.seconds)


def _run(cells: list[Cell], options: Options) -> int:
    try:
        records = run_cells(cells, options) if len(cells) > 1 else [run_cell(cells[0], options)]
    except Unfinished:
        tell("not finished: run the same command again to go on")
        return EXIT_UNFINISHED
    print(tables(records))
    return 0


def _trace(cell: Cell, options: Options) -> int:
    path = trace_cell(cell, options)
    shorten(path)
    print(trace_table(beside(path)))
    tell(f"wrote {path}")
    return 0


def _report(folder: Path) -> int:
    records = load_records(folder)
    if not records:
        tell(f"no records in {folder}")
        return 1
    print(tables(records))
    for name, picture in (("throughput.png", throughput(records)), ("latency.png", latency(records))):
        if picture:
            picture.save(folder / name)
            tell(f"wrote {folder / name}")
    return 0


def _quick(model: str, options: Options) -> int:
    rows = quick(model, options)
    show(rows)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
