"""Training beside a bare loop, and beside pictures of the same worker.

`python -m bench finetune` is of the model that comes with Darkroom, on the CPU. `python -m bench.finetune --geometry
sdxl --device cuda` is of a denoiser of SDXL's size with random weights, on a GPU.
"""

import argparse
import sys

import torch

from bench.harness import quiet_logs
from bench.table import Row, show
from bench.training.beside import beside
from bench.training.full import GEOMETRIES, full
from bench.training.memory import memory
from bench.training.pace import pace

ROUNDS = 7
LARGE, LARGEST = 8, 16  # pictures a step
FULL_ROUNDS, FULL_STEPS = 3, 10


def measure() -> list[Row]:
    """With the model that comes with Darkroom, on the CPU, beside what each is held against, in turn."""
    quiet_logs()
    return [
        *pace(ROUNDS, 1),
        *pace(ROUNDS, LARGE),
        *(memory(4, pictures) for pictures in (1, LARGE, LARGEST)),
        *beside(ROUNDS, 1),
    ]


def main() -> int:
    """A denoiser with random weights. Exits 1 where a mark is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.finetune", description=__doc__)
    parser.add_argument("--geometry", choices=GEOMETRIES, default="sdxl", help="of the denoiser (default: %(default)s)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=_count, default=FULL_ROUNDS, help="of each, in turn (default: %(default)s)")
    parser.add_argument("--steps", type=_count, default=FULL_STEPS, help="of a round (default: %(default)s)")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --geometry tiny --device cpu tries it without")
    if asked.device == "cpu" and asked.geometry != "tiny":
        parser.error(f"{asked.geometry} is too much for a CPU; --geometry tiny tries it there")
    rows = full(asked.geometry, torch.device(asked.device), asked.rounds, asked.steps)
    show(rows)
    return 0 if all(row.met for row in rows) else 1


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of something")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
