"""What is started as the nursery's interpreter behaves as one that was started anew."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.nursery import nursery

DIES = "import os, signal; os.kill(os.getpid(), signal.{name})"
WAITS = "import sys, time; print(sys.executable, flush=True); time.sleep(600)"
CATCHES = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(600)
"""


def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [nursery().python, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_it_runs_a_program_on_its_own_streams_and_ends_as_that_does() -> None:
    with start("-c", "import sys; print(sys.argv[1:], sys.stdin.read()); sys.exit(3)", "one", "-m") as process:
        assert process.communicate("two")[0] == "['one', '-m'] two\n"
    assert process.returncode == 3


@pytest.mark.parametrize(
    ("program", "number", "code"),
    [(CATCHES, signal.SIGTERM, 7), (WAITS, signal.SIGTERM, -signal.SIGTERM), (WAITS, signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_signal_to_it_is_one_to_the_program(program: str, number: signal.Signals, code: int) -> None:
    with start("-c", program) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() in {"ready", nursery().python}
        process.send_signal(number)
        assert process.stdout.read() == ""  # whatever held it has ended
        assert process.wait() == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_what_ends_the_program_ends_it(number: signal.Signals) -> None:
    with start("-c", DIES.format(name=number.name)) as process:
        assert process.wait() == -number


def test_modules_come_from_its_path_also_those_that_were_there(tmp_path: Path) -> None:
    (tmp_path / "darkroom" / "tasks").mkdir(parents=True)
    (tmp_path / "darkroom" / "tasks" / "__init__.py").write_text("NAME = 'another'")
    program = "from darkroom.tasks import NAME; print(NAME)"
    with start("-c", program, PYTHONPATH=os.pathsep.join(["", str(tmp_path)])) as process:
        assert process.communicate()[0] == "another\n"
