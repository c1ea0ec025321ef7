"""The parent of the worker processes: one per GPU, restarted with backoff when it dies, stopped together.

It loads no model, and what it has to say of a child that died is said on a thread of its own, so that there is little
in it that can fail.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType

import structlog

from darkroom.worker.process.deaths import Deaths, new_incarnation

# A child that ends with one of these would end so again: bad usage, a model that cannot be served, storage or a device
# that is not as configured (docs/cli.md).
PERMANENT = frozenset({2, 4, 5, 6})
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
HEALTHY_SECONDS = 60.0  # a process that lived this long starts from the first backoff again
LOOK_SECONDS = 0.1

# OpenMP's threads wait for each other in a loop: by default for longer than there is to wait within a model call, on
# cores that Redis, uploads and the images' own threads could have. Other programs: worker/batching/neighbours.py.
WAITS = {"GOMP_SPINCOUNT": "30000"}
THEIR_OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # variables by which the user has decided


def waits() -> dict[str, str]:
    """The variables by which a worker process waits; none where the user has decided."""
    return {} if any(name in os.environ for name in THEIR_OWN) else WAITS


@dataclass
class _Child:
    device: str | None
    process: subprocess.Popen[bytes] | None = None
    incarnation: str = ""  # what tells the process from others
    started: float = 0.0
    backoff: float = FIRST_BACKOFF_SECONDS
    due: float = field(default_factory=time.monotonic)


class Supervisor:
    """Runs `python -m darkroom.worker MODEL ...` once per device (None: as the settings say)."""

    def __init__(self, models: Sequence[str], devices: Sequence[str | None] = (None,)) -> None:
        self._models = list(models)
        self._children = [_Child(device) for device in devices]
        self._stopping = False
        self._deaths = Deaths()
        self._log = structlog.get_logger()

    def run(self) -> int:
        """Until a signal stops it, or a child says that it can never serve; returns the exit code."""
        before = {number: signal.signal(number, self._forward) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._stopping:
                for child in self._children:
                    code = self._look(child)
                    if code is not None:
                        self._log.error("worker.given_up", code=code)
                        self._stop()
                        return code
                time.sleep(LOOK_SECONDS)
            return 0
        finally:
            self._wait()
            self._deaths.close()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _look(self, child: _Child) -> int | None:
        """Starts the child if it is due; returns the exit code of one that must not be started again."""
        if child.process is None:
            if time.monotonic() >= child.due and not self._stopping:
                self._start(child)
            return None
        code = child.process.poll()
        if code is None:
            return None
        child.process = None
        self._bury(child, code)
        if code in PERMANENT:
            return code
        now = time.monotonic()
        if now - child.started > HEALTHY_SECONDS:
            child.backoff = FIRST_BACKOFF_SECONDS
        child.due = now + child.backoff
        self._log.warning("worker.died", code=code, device=child.device, restart_in_s=child.backoff)
        child.backoff = min(child.backoff * 2, LONGEST_BACKOFF_SECONDS)
        return None

    def _bury(self, child: _Child, code: int) -> None:
        """Whoever ends in order has handed its jobs back; what another one had would wait for a lease to run out."""
        if code:
            self._deaths.tell_of(child.incarnation)

    def _start(self, child: _Child) -> None:
        child.incarnation = new_incarnation()
        own = {"DARKROOM_LIFELINE": "1", "DARKROOM_INCARNATION": child.incarnation}
        environment = {**os.environ, **waits(), **own}
        if child.device is not None:
            environment["DARKROOM_DEVICE"] = child.device
        child.process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "darkroom.worker", *self._models],
            env=environment,
            stdin=subprocess.PIPE,  # the lifeline: it ends with this process, however that ends
            start_new_session=True,  # a terminal's Ctrl-C reaches the children through us alone, once
        )
        if self._stopping:  # the signal came while the child was not known yet, or before it was its turn
            child.process.terminate()
        child.started = time.monotonic()
        self._log.info("worker.started", pid=child.process.pid, device=child.device)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        self._signal(signal.Signals(number))

    def _stop(self) -> None:
        self._stopping = True
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(number)

    def _wait(self) -> None:
        for child in self._children:
            if child.process is not None:
                self._bury(child, child.process.wait())
                if child.process.stdin:
                    child.process.stdin.close()
