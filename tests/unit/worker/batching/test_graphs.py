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

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
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
    assert not kept.clear()  # nothing was recorded
