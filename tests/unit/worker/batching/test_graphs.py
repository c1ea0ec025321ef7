"""CUDA graphs where there is no CUDA: what is left of them when a call cannot be recorded."""

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import torch

from darkroom.worker.batching import graphs
from darkroom.worker.batching.graphs import Graphs
from darkroom.worker.batching.stacking import Call, run_stacked


@pytest.fixture(autouse=True)
def nothing_can_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NoReturn:
        raise RuntimeError("cannot be recorded")

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(graphs, "_Graph", refuse)


def emptying(sample: torch.Tensor, residuals: list[torch.Tensor]) -> tuple[torch.Tensor]:
    """As diffusers' UNet takes an adapter's residuals."""
    while residuals:
        sample = sample + residuals.pop(0)
    return (sample,)


def in_place(sample: torch.Tensor, residuals: list[torch.Tensor]) -> tuple[torch.Tensor]:
    for one in residuals:
        sample.add_(one)
    return (sample,)


@pytest.mark.parametrize("module", [emptying, in_place])
def test_a_module_that_changes_its_arguments_gives_the_same_each_time(module: Callable[..., Any]) -> None:
    kept, ones = Graphs(), torch.ones(2, 3)
    for _ in range(3):
        call = Call.of(module, (ones, [ones, ones]), {})
        (result,) = run_stacked([call], 2, run=kept.run)
        assert result[0].unique().tolist() == [3.0]
    assert ones.unique().tolist() == [1.0]
    assert kept.clear()
    assert not kept.clear()


def test_what_is_not_known_runs_as_it_is_until_so_much_did_that_all_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No graph ever goes alone: cuBLAS would take from the others what they were recorded with."""
    monkeypatch.setattr(graphs, "MOST", 2)
    monkeypatch.setattr(graphs, "MISSED", 3)
    recorded: list[object] = []

    class Recorded:
        def __init__(self, *_: Any) -> None:
            recorded.append(self)

        def replay(self, tree: Any) -> Any:
            return (tree[0][0] * 2,)

    monkeypatch.setattr(graphs, "_Graph", Recorded)
    kept, ran = Graphs(), list[int]()

    def double(given: torch.Tensor) -> tuple[torch.Tensor]:
        ran.append(len(given))
        return (given * 2,)

    def run(rows: int) -> None:
        (result,) = run_stacked([Call.of(double, (torch.ones(rows, 3),), {})], rows, run=kept.run)
        assert result[0].unique().tolist() == [2.0]

    for rows in (1, 2, 1, 2, 4, 4, 1, 4):
        run(rows)
    assert (len(recorded), ran) == (2, [1, 2, 4, 4, 4])
    run(4)
    assert len(recorded) == 3
    run(4)
    run(1)
    assert (len(recorded), ran) == (4, [1, 2, 4, 4, 4, 4, 1])
