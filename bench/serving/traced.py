"""Darkroom's worker process under PyTorch's profiler, begun and ended from outside.

As a program: `python -m bench.serving.traced MODEL`, with the path of a socket in the variable BENCH_TRACE.
"""

import os
import runpy
import threading
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

VARIABLE = "BENCH_TRACE"


class Tracer:
    """Tells a traced program when to begin and end. Raises EOFError where it is gone."""

    def __init__(self, socket: Path) -> None:
        self._program: Connection = Client(str(socket), "AF_UNIX")

    def begin(self) -> None:
        """What happens from now on is traced."""
        self._ask("")

    def end(self, path: Path) -> None:
        """Writes what was traced, for Perfetto or Chrome."""
        self._ask(str(path))

    def _ask(self, text: str) -> None:
        self._program.send(text)
        self._program.recv()


def _serve(listener: Listener) -> None:
    running = profiler()
    with listener.accept() as client, suppress(EOFError):
        while True:
            path = client.recv()
            if path:
                running.stop()
                running.export_chrome_trace(path)
                running = profiler()
            else:
                running.start()
            client.send(None)


def profiler() -> Any:
    """Of all threads, not started."""
    import torch
    from torch._C._profiler import _ExperimentalConfig
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    return profile(activities=activities, experimental_config=_ExperimentalConfig(profile_all_threads=True))


if __name__ == "__main__":
    with profiler():  # its first time takes a second; and CUDA graphs are seen only if it was there before them
        pass
    threading.Thread(target=_serve, args=[Listener(os.environ[VARIABLE], "AF_UNIX")], daemon=True).start()
    runpy.run_module("darkroom.worker", run_name="__main__", alter_sys=True)
