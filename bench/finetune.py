"""Training beside a bare loop, and beside pictures of the same worker."""

from bench.harness import quiet_logs
from bench.table import Row
from bench.training.beside import beside
from bench.training.memory import memory
from bench.training.pace import pace

ROUNDS = 7
LARGE, LARGEST = 8, 16  # pictures a step


def measure() -> list[Row]:
    """With the model that comes with Darkroom, on the CPU, beside what each is held against, in turn."""
    quiet_logs()
    return [
        *pace(ROUNDS, 1),
        *pace(ROUNDS, LARGE),
        *(memory(3, pictures) for pictures in (1, LARGE, LARGEST)),
        *beside(ROUNDS, 1),
    ]
