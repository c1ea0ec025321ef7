"""CUDA graphs of model calls: their hundreds of kernels are recorded once, and started as one from then on.

Started one by one from Python they take a denoiser 20 to 40 ms a call, whatever the GPU needs for them.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any

import structlog
import torch

from darkroom.worker.batching.stacking import Tree, joined

MOST = 64  # graphs that are kept: buckets times sizes; the one that was used least recently goes

Module = Callable[..., Any]


class Graphs:
    """Runs model calls by their graphs; for the engine's thread, on a stream that no other thread uses.

    All graphs share one pool of memory, so together they hold what the largest needs: they never run at the same time,
    and what one gives is copied before another is started.
    """

    def __init__(self) -> None:
        self._pool: Any = None
        self._kept: OrderedDict[Hashable, _Graph | None] = OrderedDict()  # None: cannot be recorded

    def run(self, module: Module, tree: Tree, key: Hashable) -> Any:
        """What the module gives for these arguments; calls of one `key` have the same shapes and other arguments.

        Raises what the module raises. Where a call cannot be recorded it runs as it is, from then on.
        """
        if key not in self._kept:
            result = module(*tree[0], **tree[1])  # also compiles, and makes libraries take what they need for good
            self._kept[key] = self._record(module, tree)
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
            if self._kept[key] is None:
                return result
            del result  # the graph's own from the first call on, so that all are made in the same way
        self._kept.move_to_end(key)
        graph = self._kept[key]
        return graph.replay(tree) if graph else module(*tree[0], **tree[1])

    def _record(self, module: Module, tree: Tree) -> "_Graph | None":
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            return _Graph(module, tree, self._pool)
        except Exception as error:  # noqa: BLE001 - what a module does in a call is the model's affair
            structlog.get_logger().warning("batch.no_graph", error=str(error)[:300])
            return None


class _Graph:
    """One recorded call. It reads its arguments where those of the recording lie."""

    def __init__(self, module: Module, tree: Tree, pool: Any) -> None:
        self._tree = tree
        self._graph = torch.cuda.CUDAGraph()
        # Only this thread's calls are held against the rules of recording: the others go on with their work.
        self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            self._result = module(*tree[0], **tree[1])
        except BaseException:
            with suppress(RuntimeError):
                self._graph.capture_end()
            raise
        self._graph.capture_end()

    def replay(self, tree: Tree) -> Any:
        joined([self._tree, tree], lambda tensors: tensors[0].copy_(tensors[1]))
        self._graph.replay()
        return joined([self._result], lambda tensors: tensors[0].clone())
