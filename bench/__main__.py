"""`python -m bench [NAME ...]`: runs the measurements and prints their tables; exits 1 where a mark is missed."""

import sys
from collections.abc import Callable

from bench import (
    adapters,
    embeddings,
    finetune,
    housekeeping,
    hygiene,
    imports,
    inpaint,
    neighbours,
    overhead,
    redis_time,
    replay,
    serve,
    speedups,
    submit,
    urgent,
    watch,
    worker_memory,
)
from bench.table import Row, show

BENCHES: dict[str, Callable[[], list[Row]]] = {
    "imports": imports.measure,
    "submit": submit.measure,
    "overhead": overhead.measure,
    "worker_memory": worker_memory.measure,
    "hygiene": hygiene.measure,
    "housekeeping": housekeeping.measure,
    "watch": watch.measure,
    "redis_time": redis_time.measure,
    "neighbours": neighbours.measure,
    "replay": replay.measure,
    "inpaint": inpaint.measure,
    "embeddings": embeddings.measure,
    "speedups": speedups.measure,
    "adapters": adapters.measure,
    "finetune": finetune.measure,
    "serve": serve.measure,
    "urgent": urgent.measure,
}


def main() -> int:
    """The measurements that are named, or all."""
    names = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no such bench: {', '.join(unknown)}; there are: {', '.join(BENCHES)}")
        return 2
    rows = [row for name in names for row in BENCHES[name]()]
    show(rows)
    return 0 if all(row.met for row in rows) else 1


sys.exit(main())
