"""The one thread that runs a process's model calls, in the order in which they come.

Weights, tokenizers and offload hooks are shared by all jobs and none of them stands being used twice at a time.
One thread keeps the peak of memory at one call's, and CUDA graphs and the OpenMP team where they were made.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

Call = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class EngineClosed(RuntimeError):
    """A model call came after `close`."""


class Engine:
    """Runs calls on its own thread under `torch.no_grad`, with `threads` CPU threads for each."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._call_began: float | None = None
        # A daemon, so that a process that dies of something else does not wait for it.
        self._thread = threading.Thread(target=self._run, name="darkroom-engine", daemon=True)
        self._thread.start()

    def call(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`fn(*args, **kwargs)` on the engine's thread; blocks. Whatever it raises comes out here, SystemExit too.

        From the engine's own thread it is a plain call. Raises EngineClosed after `close`.
        """
        if threading.current_thread() is self._thread:
            return fn(*args, **kwargs)
        result: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise EngineClosed("the engine is closed")
            self._calls.put((result, fn, args, kwargs))
        try:
            return result.result()
        finally:
            del result  # a raised exception's traceback would hold the future, and the future the exception

    def busy_seconds(self) -> float:
        """How long the call that runs now has run; 0 where none does."""
        began = self._call_began
        return 0.0 if began is None else time.monotonic() - began

    def close(self) -> None:
        """Finish the calls that are waiting, then end the thread. May be repeated."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._calls.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        set_threads(self._threads)
        with torch.no_grad():
            while (call := self._calls.get()) is not None:
                self._call_began = time.monotonic()
                _answer(call)
                self._call_began = None
                del call  # or its tensors would live until the next call comes


def set_threads(count: int) -> None:
    """CPU threads for the model code that this thread runs; torch keeps one number for each thread.

    The first parallel operation of a thread takes over what any thread set last, so that is made to happen before.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


def _answer(call: Call) -> None:
    result, fn, args, kwargs = call
    try:
        result.set_result(fn(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - the caller gets it; this thread has to live on
        result.set_exception(error)
