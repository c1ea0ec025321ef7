"""The most memory that a training takes beyond the loaded model, beside a bare loop's; each in a process of its own.

`python -m bench.training.memory ours|bare BATCH STEPS` prints it, in bytes; on Linux, which keeps peaks of processes.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.table import Row

STEPS = 12
_PEAK, _NOW = "VmHWM", "VmRSS"


def memory(rounds: int, batch_size: int, steps: int = STEPS) -> Row:
    """The least of processes of either kind, in turn: the others' heaps were left with larger holes, by chance."""
    found: dict[str, list[int]] = {"ours": [], "bare": []}
    for _ in range(rounds):
        for kind, values in found.items():
            values.append(_asked(kind, batch_size, steps))
    ours, bare = (min(values) for values in found.values())
    what = f"a training of {batch_size} a step: memory beyond the loaded model's, against a bare loop"
    return Row(what, f"{ours / bare:.3f} ({ours / 2**20:.0f} MB)", "<= 1.05", ours <= 1.05 * bare)


def _asked(kind: str, batch_size: int, steps: int) -> int:
    command = [sys.executable, "-m", "bench.training.memory", kind, str(batch_size), str(steps)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _measure(kind: str, batch_size: int, steps: int) -> int:
    from bench.harness import quiet_logs

    quiet_logs()
    return (_ours if kind == "ours" else _bare)(batch_size, steps)


def _ours(batch_size: int, steps: int) -> int:
    from bench.loras.flight import starter
    from bench.training.subject import options, session
    from darkroom.worker.images.generate import Generator

    with starter() as (engine, load):
        generator = Generator(load(), engine)

        def train() -> None:
            going = session(generator, engine, options(steps, batch_size=batch_size))
            for _ in range(steps):
                going.advance()

        return growth(train)


def _bare(batch_size: int, steps: int) -> int:
    from bench.training.bare import BareLoop, stock, stock_batches
    from bench.training.subject import folder, options
    from darkroom.worker.batching.engine import Engine
    from darkroom.worker.batching.threads import cores

    with Engine(cores()) as engine:  # a thread has a heap of its own
        model = stock(folder())
        asked = options(steps, batch_size=batch_size)

        def train() -> None:
            loop = BareLoop(model.unet, model.scheduler, asked, stock_batches(model, asked))
            for _ in range(steps):
                engine.call(loop.advance)

        return growth(train)


def growth(train: Callable[[], object]) -> int:
    """The most bytes in memory while it runs, beyond those before."""
    before = _status(_NOW)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now
    train()
    return _status(_PEAK) - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    kind, *numbers = sys.argv[1:]
    print(_measure(kind, *map(int, numbers)))
