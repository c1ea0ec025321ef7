"""What `import darkroom.tasks` costs a producer: time and memory, in fresh processes."""

import statistics
import subprocess
import sys

from bench.table import Row

RUNS = 9
PROBE = (  # psutil comes last, it is not part of the cost; ru_maxrss would count the parent before exec
    "import time; began = time.perf_counter(); import darkroom.tasks; seconds = time.perf_counter() - began;"
    "import psutil; print(seconds, psutil.Process().memory_info().rss / 2**20)"
)


def measure() -> list[Row]:
    """Medians over fresh interpreters."""
    runs = []
    for _ in range(RUNS):
        out = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout
        runs.append(tuple(map(float, out.split())))
    seconds, megabytes = (statistics.median(column) for column in zip(*runs, strict=True))
    return [
        Row("import darkroom.tasks: time", f"{seconds:.3f} s", "< 0.5 s", seconds < 0.5),
        Row("import darkroom.tasks: memory of the process", f"{megabytes:.0f} MB", "< 80 MB", megabytes < 80),
    ]
