"""CUDA graphs of model calls: their hundreds of kernels are recorded once, and started as one from then on.

Started one by one from Python they take SDXL's denoiser 60 to 80 ms a call on a slow host, whatever the GPU needs.
"""

import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog
import torch

from darkroom.worker.batching.stacking import Tree, changed, joined, tensors_of
from darkroom.worker.batching.streams import RECORDING

MOST = 128  # calls that are known: buckets times sizes
MISSED = 1000  # calls that are not, once there is no more room; after so many all are forgotten
APART = 0.02  # of the largest value; what a recording may give otherwise than the call itself

Module = Callable[..., Any]


class Graphs:
    """Runs model calls by their graphs; for the engine's thread, on a stream that no other thread uses.

    All graphs share one pool of memory, which holds about twice what the largest needs: they never run at the same
    time, and what one gives is copied before another is started. They go together, too: the end of one takes the
    workspace of cuBLAS from all that were recorded on its stream (https://github.com/pytorch/pytorch/issues/193402).
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, _Graph | None] = {}  # None: cannot be recorded
        self._recordings: list[torch.cuda.CUDAGraph] = []  # those that failed or are not used, too
        self._pool: Any = None
        self._missed = 0

    def clear(self) -> bool:
        """Gives their memory back; False where there was none. What is asked for again is recorded again."""
        held = bool(self._recordings)
        self._kept.clear()
        self._recordings.clear()
        self._pool, self._missed = None, 0
        return held

    def run(self, module: Module, tree: Tree, key: Hashable) -> Any:
        """What the module gives for these arguments; calls of one `key` have the same shapes and other arguments.

        Raises what the module raises. A call that cannot be recorded runs as it is, from then on; so does one whose
        recording gives something else, and one for which there is no room.
        """
        if key not in self._kept and self._has_room():
            asked = _copied(tree)  # a module may change its arguments, or take them out of their lists
            result = module(*tree[0], **tree[1])  # also compiles, and makes libraries take what they need for good
            graph = self._kept[key] = self._record(module, asked, result)
            return graph.replay(asked) if graph else result
        graph = self._kept.get(key)
        return graph.replay(tree) if graph else module(*tree[0], **tree[1])

    def _record(self, module: Module, tree: Tree, result: Any) -> "_Graph | None":
        """The graph of a call that gave `result`; None where it would give something else, or there is none."""
        torch.cuda.empty_cache()  # nothing that is kept for later can be used by a recording, or given back during one
        recording = torch.cuda.CUDAGraph()
        self._recordings.append(recording)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            graph = _Graph(recording, module, _copied(tree), self._pool)
            if _apart(result, graph.replay(tree)) <= APART:
                return graph
            why = "its recording gave something else"
        except Exception as error:  # noqa: BLE001 - what a module does in a call is the model's affair
            why = str(error)[:300]
            self._pool = None  # torch may still take it for one that is being recorded to
        structlog.get_logger().warning("batch.no_graph", error=why)
        return None

    def _has_room(self) -> bool:
        """Makes it where what is kept is not what is asked for: a recording pays if it is used often."""
        if len(self._kept) < MOST:
            return True
        self._missed += 1
        if self._missed > MISSED:
            self.clear()
        return not self._kept


def _copied(tree: Tree) -> Tree:
    copy: Tree = changed(tree, torch.clone)
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

    def __init__(self, graph: torch.cuda.CUDAGraph, module: Module, tree: Tree, pool: Any) -> None:
        self._graph, self._tree = graph, tree
        given: Tree = changed(tree, lambda tensor: tensor)  # lists of its own: the module may empty them
        with _recording(graph, pool):
            self._result = module(*given[0], **given[1])

    def replay(self, tree: Tree) -> Any:
        joined([self._tree, tree], lambda tensors: tensors[0].copy_(tensors[1]))
        self._graph.replay()
        return changed(self._result, torch.clone)


@contextmanager
def _recording(graph: torch.cuda.CUDAGraph, pool: Any) -> Iterator[None]:
    """What is started in the context is recorded. A recording that fails leaves nothing behind."""
    gc.collect()
    gc.disable()  # what falls due now may unload a kernel or a graph, which ends a recording
    try:
        with RECORDING:
            try:
                # Only this thread's calls are held against the rules of recording: the others go on with their work.
                graph.capture_begin(pool=pool, capture_error_mode="thread_local")
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
        if torch.__version__ >= "2.13":
            raise
        # The allocator of older ones then goes on as if one were recorded, and frees nothing any more.
        with suppress(RuntimeError):  # where it was not told of one, nothing is to be undone
            torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
            torch._C._cuda_releasePool(torch.cuda.current_device(), pool)
        raise
