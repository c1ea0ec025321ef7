"""LoRAs in a denoiser whose blocks are compiled: what is compiled, and what comes out."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from darkroom.worker.adapters.bank import Bank, Plan
from darkroom.worker.adapters.denoiser import AdaptedDenoiser
from darkroom.worker.models.adaptable import PARTS
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.models.tuning import tune
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels

ROWS, PAGES = 4, 6
CROSS = 80  # the width of what the tiny SDXL reads
Call = Callable[[tuple[int, ...] | None], torch.Tensor]  # the page of each row, or no extras at all


@pytest.fixture(scope="module")
def loaded(tiny_models: TinyModels) -> LoadedModel:
    return load_model(tiny_models("sdxl"), Placement(torch.device("cpu"), torch.float32, "full", 1), WorkerSettings())


@pytest.fixture(scope="module")
def calls(loaded: LoadedModel) -> Iterator[tuple[Call, Call, list[int]]]:
    """Calls of the denoiser with pages of a full bank: as it is, and compiled; and the graphs that were compiled."""
    graphs = list[int]()

    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    tuned = copy.deepcopy(loaded.components["unet"])
    speedups = replace(loaded.placement, speedups=frozenset(["compile"]))
    torch._dynamo.reset()
    tune({"unet": tuned}, speedups, [(64, 64)], backend=backend)
    for path, block in tuned.named_modules():
        if not path.startswith("mid_block."):  # which has layers of all parts: to compile more would take longer
            block._compiled_call_impl = None
    yield _calls(loaded, loaded.components["unet"]), _calls(loaded, tuned), graphs
    torch._dynamo.reset()
    torch.compiler.set_stance("default")


def _calls(loaded: LoadedModel, unet: Any) -> Call:
    slots = [slot._replace(layer=unet.get_submodule(slot.path)) for slot in loaded.slots["unet"]]
    bank = Bank(Plan(slots), PAGES, torch.float32, torch.device("cpu"))
    draw = torch.Generator().manual_seed(1)
    sheets = {
        part: {width: torch.randn(count, PAGES, 8, width, generator=draw) / 8 for width, count in widths.items()}
        for part, widths in Plan(slots).counts.items()
    }
    bank.write(sheets, range(1, PAGES + 1))
    denoiser = AdaptedDenoiser(unet, bank)
    draw = torch.Generator().manual_seed(0)
    sample, states = torch.randn(ROWS, 4, 8, 8, generator=draw), torch.randn(ROWS, 77, CROSS, generator=draw)
    added = {"text_embeds": torch.randn(ROWS, 48, generator=draw), "time_ids": torch.ones(ROWS, 6)}

    @torch.no_grad()
    def call(pages: tuple[int, ...] | None) -> torch.Tensor:
        asked = None if pages is None else (torch.tensor(pages)[:, None], torch.full((ROWS, 1), 0.5))
        given = {"added_cond_kwargs": added, "extras": [asked] * len(PARTS)}
        found: torch.Tensor = denoiser(sample, torch.full((ROWS,), 500.0), states, **given).sample
        return found

    return call


def test_blocks_are_compiled_once_for_any_loras_and_once_for_none(calls: tuple[Call, Call, list[int]]) -> None:
    plain, compiled, graphs = calls
    seen = []
    for pages in (None, (1, 2, 3, 0), None, (4, 4, 0, 5), (6, 1, 1, 1), None):
        torch.testing.assert_close(compiled(pages), plain(pages), rtol=1e-4, atol=1e-5)
        seen.append(len(graphs))
    none, with_loras = seen[:2]
    assert 0 < none < with_loras <= 2 * none
    assert seen[2:] == [with_loras] * 4


def test_compiled_rows_do_not_depend_on_the_loras_of_others(calls: tuple[Call, Call, list[int]]) -> None:
    plain, compiled, _ = calls
    compiled((1, 2, 3, 0))
    for call in (plain, compiled):
        found = call((1, 2, 3, 0))
        assert torch.equal(call((1, 4, 0, 5))[0], found[0])
        assert torch.equal(found[3], call((4, 4, 4, 0))[3])
        assert torch.equal(found[3], call(None)[3])
