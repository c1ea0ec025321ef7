"""What a side takes while a load is on it: memory of its processes, and of the GPU its memory and busy share."""

import statistics
import subprocess
import threading
from types import TracebackType
from typing import Self

import psutil

LOOK_SECONDS = 0.25
QUERY = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "--id=0"]


class Watch:
    """Looks from entering to leaving, at a process with all its children, and at the GPU if there is one."""

    def __init__(self, pid: int, *, gpu: bool) -> None:
        self.rss = 0.0  # peak, MB
        self._process = psutil.Process(pid)
        self._gpu = gpu
        self._seen: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @property
    def busy(self) -> float | None:
        """The mean share of time in which a kernel ran, as nvidia-smi tells it; None without a GPU."""
        return statistics.mean(busy for busy, _ in self._seen) if self._seen else None

    @property
    def gpu_memory(self) -> float | None:
        """The peak of the whole card in MB; None without a GPU."""
        return max((memory for _, memory in self._seen), default=None)

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
            self.rss = max(self.rss, sum(map(_rss, [self._process, *_children(self._process)])) / 2**20)
            if self._gpu:
                self._seen.append(gpu_now())
            if self._over.wait(LOOK_SECONDS):
                return


def gpu_now() -> tuple[float, float]:
    """Busy share, and memory in use on the card in MB. One call each time: in its loop it may hold lines back."""
    found = subprocess.run(QUERY, capture_output=True, text=True, check=True).stdout
    busy, memory = found.split(",")
    return float(busy) / 100, float(memory)


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
