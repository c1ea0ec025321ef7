"""CUDA graphs of model calls: their hundreds of kernels are recorded once, and started as one from then on.

Started one by one from Python they take SDXL's denoiser 60 to 80 ms a call on a slow host, whatever the GPU needs.
"""

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog
import torch

from darkroom.worker.batching.stacking import Tree, joined, tensors_of
from darkroom.worker.batching.streams import RECORDING

MOST = 64  # graphs that are kept: buckets times sizes; the one that was used least recently goes
APART = 0.02  # of the largest value; what a recording may give otherwise than the call itself

Module = Callable[..., Any]


class Graphs:
    """Runs model calls by their graphs; for the engine's thread, on a stream that no other thread uses.

    All graphs share one pool of memory, which holds about twice what the largest needs: they never run at the same
    time, and what one gives is copied before another is started.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, _Graph | None] = OrderedDict()  # None: cannot be recorded

    def clear(self) -> bool:
        """Gives their memory back; False where there was none. What is asked for again is recorded again."""
        held = any(self._kept.values())
        self._kept.clear()
        return held

    def run(self, module: Module, tree: Tree, key: Hashable) -> Any:
        """What the module gives for these arguments; calls of one `key` have the same shapes and other arguments.

        Raises what the module raises. A call that cannot be recorded runs as it is, from then on; so does one whose
        recording gives something else.
        """
        if key not in self._kept:
            asked = _copied(tree)  # a module may change its arguments, or take them out of their lists
            result = module(*tree[0], **tree[1])  # also compiles, and makes libraries take what they need for good
            graph = self._kept[key] = self._record(module, asked, result)
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
            return graph.replay(asked) if graph else result
        self._kept.move_to_end(key)
        graph = self._kept[key]
        return graph.replay(tree) if graph else module(*tree[0], **tree[1])

    def _record(self, module: Module, tree: Tree, result: Any) -> "_Graph | None":
        """The graph of a call that gave `result`; None where it would give something else, or there is none."""
        torch.cuda.empty_cache()  # nothing that is kept for later can be used by a recording, or given back during one
        living = next((graph for graph in self._kept.values() if graph), None)  # a pool goes with its last graph
        try:
            graph = _Graph(module, _copied(tree), living.pool if living else torch.cuda.graph_pool_handle())
            if _apart(result, graph.replay(tree)) <= APART:
                return graph
            why = "its recording gave something else"
        except Exception as error:  # noqa: BLE001 - what a module does in a call is the model's affair
            why = str(error)[:300]
        structlog.get_logger().warning("batch.no_graph", error=why)
        return None


def _copied(tree: Tree) -> Tree:
    copy: Tree = joined([tree], lambda tensors: tensors[0].clone())
    return copy


def _apart(one: Any, other: Any) -> float:
    """The largest difference of two results to the largest value; 0 where both have the same that is no number."""

    def relative(tensors: list[torch.Tensor]) -> torch.Tensor:
        left, right = (tensor.double().nan_to_num() for tensor in tensors)
        return (left - right).abs().max() / left.abs().max().clamp(min=1e-30)

    found = joined([one, other], relative)
    return max((float(value) for value in tensors_of(found)), default=0.0)


class _Graph:
    """One recorded call. It reads its arguments where those of the recording lie, in `tree`."""

    def __init__(self, module: Module, tree: Tree, pool: Any) -> None:
        self._tree, self.pool = tree, pool
        self._graph = torch.cuda.CUDAGraph()
        given: Tree = joined([tree], lambda tensors: tensors[0])  # lists of its own: the module may empty them
        with _recording(self._graph, pool):
            self._result = module(*given[0], **given[1])

    def replay(self, tree: Tree) -> Any:
        joined([self._tree, tree], lambda tensors: tensors[0].copy_(tensors[1]))
        self._graph.replay()
        return joined([self._result], lambda tensors: tensors[0].clone())


@contextmanager
def _recording(graph: torch.cuda.CUDAGraph, pool: Any) -> Iterator[None]:
    """What is started in the context is recorded. A recording that fails leaves nothing behind."""
    gc.collect()
    gc.disable()  # what falls due now may unload a kernel or a graph, which ends a recording
    try:
        with RECORDING:
            # Only this thread's calls are held against the rules of recording: the others go on with their work.
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                yield
            except BaseException:
                with suppress(RuntimeError):
                    _end(graph, pool)
                raise
            _end(graph, pool)
    finally:
        gc.enable()


def _end(graph: torch.cuda.CUDAGraph, pool: Any) -> None:
    try:
        graph.capture_end()
    except RuntimeError:
        # Up to torch 2.12 the allocator then goes on as if one were recorded, and frees nothing any more.
        for undo in (torch._C._cuda_endAllocateToPool, torch._C._cuda_releasePool):
            with suppress(RuntimeError):
                undo(torch.cuda.current_device(), pool)
        raise
