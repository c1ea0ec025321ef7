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
    """Looks from entering to leaving; `rss` and `gpu_memory` are peaks in MB, `busy` the GPU's mean share of time.

    `busy` is the share in which a kernel ran, as nvidia-smi tells it; None without a GPU. `gpu_memory` is the whole
    card's.
    """

    def __init__(self, pid: int, *, gpu: bool) -> None:
        self.rss = 0.0
        self.gpu_memory: float | None = None
        self.busy: float | None = None
        self._process = psutil.Process(pid)
        self._gpu = _Gpu() if gpu else None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._gpu:
            self.gpu_memory, self.busy = self._gpu.close()

    def _run(self) -> None:
        while True:
            self.rss = max(self.rss, sum(map(_rss, [self._process, *_children(self._process)])) / 2**20)
            if self._over.wait(LOOK_SECONDS):
                return


class _Gpu:
    """Reads what nvidia-smi prints ten times a second."""

    def __init__(self) -> None:
        self._program = subprocess.Popen([*QUERY, "--loop-ms=100"], stdout=subprocess.PIPE, text=True)
        self._seen: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._read, name="watch-gpu", daemon=True)
        self._thread.start()

    def close(self) -> tuple[float | None, float | None]:
        """Peak of memory in MB, mean busy share."""
        self._program.terminate()
        self._program.wait()
        self._thread.join()
        if not self._seen:
            return None, None
        return max(memory for _, memory in self._seen), statistics.mean(busy for busy, _ in self._seen) / 100

    def _read(self) -> None:
        assert self._program.stdout
        with self._program.stdout as lines:
            for line in lines:
                busy, _, memory = line.partition(",")
                if busy.strip().isdigit() and memory.strip().isdigit():
                    self._seen.append((float(busy), float(memory)))


def gpu_memory_now() -> float:
    """MB in use on the card."""
    found = subprocess.run(QUERY, capture_output=True, text=True, check=True).stdout
    return float(found.split(",")[1])


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
