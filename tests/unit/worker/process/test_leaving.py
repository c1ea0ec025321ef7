"""A process that ends at once says all it had to say."""

import subprocess
import sys

ENDS = """
import atexit, sys
from darkroom.worker.process.leaving import leave
atexit.register(print, "taken apart")
print("out", end="")
print("err", end="", file=sys.stderr)
{before}
leave(7)
"""


def ended(before: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", ENDS.format(before=before)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_ends_with_its_code_and_takes_nothing_apart() -> None:
    done = ended()
    assert (done.returncode, done.stdout, done.stderr) == (7, "out", "err")


def test_it_ends_where_nobody_reads_any_more() -> None:
    done = ended("import os; sys.stdout.close(); os.close(2)")
    assert (done.returncode, done.stdout) == (7, "out")
