"""Every kind by every family in every memory mode on a CUDA device."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product

import pytest
import torch

from darkroom.worker.kinds.products import Produced
from darkroom.worker.models.device import Placement
from darkroom.worker.models.tiny import make_tiny
from darkroom.worker.models.tuning import make_engine
from darkroom.worker.settings import MemoryMode
from tests.conftest import TinyModels
from tests.modes import MODES, SORTS, Models, Sort, compared, offered, works

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

#: Of pictures in 255, and of numbers in files: kernels may be chosen by what else is in memory.
LEVELS, NUMBERS = 5, 2e-2


@pytest.fixture(scope="module")
def every(tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    folder = tmp_path_factory.mktemp("nine")
    nine = make_tiny("sdxl", folder / "model", channels=9)
    entries = {sort: nine if sort == "9 channels" else tiny_models(sort) for sort in SORTS}
    device = torch.device("cuda:0")
    with make_engine(Placement(device, torch.float32, "full", 1)) as engine:
        yield Models(entries, engine, folder, device)


@pytest.fixture(scope="module")
def full(every: Models) -> Callable[[str, Sort], list[Produced]]:
    return cache(lambda row, sort: every.make(row, sort, "full"))


CELLS = [(cell, mode) for cell, mode in product(works(), MODES[1:]) if offered(cell[0], mode)]


@pytest.mark.parametrize(("cell", "mode"), CELLS, ids=str)
def test_it_gives_what_it_gives_with_everything_on_the_device(
    every: Models, full: Callable[[str, Sort], list[Produced]], cell: tuple[str, Sort], mode: MemoryMode
) -> None:
    levels, numbers = compared(every.make(*cell, mode), full(*cell))
    assert levels <= LEVELS and numbers <= NUMBERS
    here = [part for part in every.parts(mode) if any(weight.is_cuda for weight in part.parameters())]
    assert len(here) == {"model_offload": 1, "sequential_offload": 0}.get(mode, len(every.parts(mode)))
