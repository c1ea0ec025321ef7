"""What a side takes while a load is on it: memory of its processes, and of the GPU its memory and busy share."""

import statistics
import subprocess
import threading
from types import TracebackType
from typing import Self

import psutil

LOOK_SECONDS = 0.25
CARD = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
PROCESSES = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits", "--id=0"]


class Watch:
    """Looks from entering to leaving, at a process with all its children, and at the GPU if there is one."""

    def __init__(self, pid: int, *, gpu: bool) -> None:
        self.rss = 0.0  # peak, MB
        self._process = psutil.Process(pid)
        self._gpu = gpu
        self._seen: list[float] = []
        self._memory: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @property
    def busy(self) -> float | None:
        """The mean share of time in which a kernel ran, as nvidia-smi tells it; None without a GPU."""
        return statistics.mean(self._seen) if self._seen else None

    @property
    def gpu_memory(self) -> float | None:
        """The peak of these processes on the card in MB; None where that cannot be told."""
        return max(self._memory, default=None)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            family = [self._process, *_children(self._process)]
            self.rss = max(self.rss, sum(map(_rss, family)) / 2**20)
            if self._gpu:
                self._look({str(one.pid) for one in family})
            if self._over.wait(LOOK_SECONDS):
                return

    def _look(self, pids: set[str]) -> None:
        busy = _asked(CARD).strip()
        self._seen += [float(busy) / 100] if busy.isdecimal() else []  # a card that is divided tells nothing
        rows = [line.split(",") for line in _asked(PROCESSES).splitlines()]
        ours = [memory.strip() for pid, memory in rows if pid.strip() in pids]
        found = [float(memory) for memory in ours if memory.isdecimal()]
        self._memory += [sum(found)] if found else []


def _asked(query: list[str]) -> str:
    """One call each time: in its loop the program may hold lines back."""
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _rss(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0.0
