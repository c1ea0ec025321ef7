"""LoRAs by row: what pictures with them cost beside pictures without, and beside a worker that loads them by turns."""

import tempfile
from pathlib import Path

from bench.harness import quiet_logs
from bench.loras.few_steps import few_steps
from bench.loras.fresh import fresh, large_file
from bench.loras.stock import against_stock
from bench.loras.styled import styled
from bench.loras.throughput import throughput
from bench.table import Row

ROUNDS = 9
FEW = 3  # where a round takes long, and what is found is far from its mark


def measure() -> list[Row]:
    """With the model that comes with Darkroom, on the CPU; each beside what it is held against, in turn."""
    quiet_logs()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [
            *throughput(folder, ROUNDS),
            styled(folder, ROUNDS),
            few_steps(ROUNDS),
            against_stock(folder, FEW),
            *fresh(folder, ROUNDS),
            large_file(folder, FEW),
        ]
