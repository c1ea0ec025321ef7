"""Every kind by every family in every memory mode that runs on a CPU, as docs/11-kinds.md has it in its tables."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import groupby, product
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from darkroom.tasks import InvalidRequest
from darkroom.tasks.requests import KINDS
from darkroom.worker.batching.engine import Engine
from darkroom.worker.errors import DeviceUnavailable
from darkroom.worker.kinds.products import Produced
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.memory import module_on
from darkroom.worker.models.tiny import make_tiny
from darkroom.worker.settings import MemoryMode, WorkerSettings
from tests.conftest import TinyModels
from tests.modes import CPU, MODES, ROWS, SORTS, Models, Sort, compared, offered, sort_of, told, works

#: Attention in slices adds up in another order. Nothing else may change a bit.
LEVELS, NUMBERS = 2, 1e-4
VAE_OR_WORDS = ("embed", "encode", "decode")

Full = Callable[[str, Sort], list[Produced]]


def _cells() -> Iterator[Any]:
    """In the suite one of each row, in turn of each mode and by each family; all of them in `make faults`."""
    for index, (_, cells) in enumerate(groupby(works(), lambda cell: cell[0])):
        able = list(cells)
        modes = [mode for mode in MODES[1:] if offered(able[0][0], mode)]
        chosen = able[index % len(able)], modes[index % len(modes)]
        for cell, mode in product(able, modes):
            marks = [] if (cell, mode) == chosen else [pytest.mark.thorough]
            yield pytest.param(*cell, mode, id=f"{cell[0]}, {cell[1]}, {mode}", marks=marks)


@pytest.fixture(scope="module")
def every(tiny_models: TinyModels, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("nine")
    nine = make_tiny("sdxl", folder / "model", channels=9)
    return Models({sort: nine if sort == "9 channels" else tiny_models(sort) for sort in SORTS}, engine, folder)


@pytest.fixture(scope="module")
def full(every: Models) -> Full:
    return cache(lambda row, sort: every.make(row, sort, "full"))


def test_the_tables_have_every_kind_family_and_mode() -> None:
    assert list(told("asked for")) == list(product(ROWS, SORTS))
    pictures = {name for name, kind in KINDS.items() if not kind.own_command}
    assert {ROWS[row].kind for row, _ in told("asked for")} >= pictures
    assert [mode for mode, column in told("`--memory`, here") if column == "a worker on a CPU"] == list(MODES)


@pytest.mark.parametrize(("row", "sort", "mode"), list(_cells()))
def test_it_gives_what_it_gives_with_everything_on_the_device(
    every: Models, full: Full, row: str, sort: Sort, mode: MemoryMode
) -> None:
    if mode == "model_offload":  # on a GPU another module's weights would be there now, whatever comes next
        every.make("encode" if row == "embed" else "embed", sort, mode)
    with turns(every) as seen:
        made = every.make(row, sort, mode)
    assert bool(seen) == (mode == "model_offload")
    assert all(has_turn is owner for owner, has_turn in seen)
    levels, numbers = compared(made, full(row, sort))
    if mode == "attention_slicing" and row not in VAE_OR_WORDS:
        assert levels <= LEVELS and numbers <= NUMBERS
    else:
        assert (levels, numbers) == (0, 0)
    if mode == "sequential_offload":  # else a call went past the hooks
        assert {weight.device.type for part in every.parts(mode) for weight in part.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("row", "column"), [cell for cell, code in told("asked for").items() if code != "yes"], ids=", ".join
)
def test_what_a_family_does_not_do_is_refused(every: Models, row: str, column: str) -> None:
    """When it is submitted, so in every mode."""
    with pytest.raises(InvalidRequest) as caught:
        every.make(row, sort_of(column), "full")
    assert {fault.code for fault in caught.value.faults} == {told("asked for")[row, column]}
    assert all(len(fault.message) > 20 for fault in caught.value.faults)


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_on_a_cpu_takes_or_refuses_the_mode(mode: MemoryMode) -> None:
    cell = told("`--memory`, here")[mode, "a worker on a CPU"]
    settings = WorkerSettings(device="cpu", memory=mode)
    if cell == "runs":
        assert choose_placement(settings).memory == mode
        return
    with pytest.raises(DeviceUnavailable) as caught:
        choose_placement(settings)
    assert caught.value.code == cell


def test_two_models_take_turns(every: Models) -> None:
    """The second one's denoiser sends back the first one's, with which it would not fit on the device."""
    base, refiner = (every.of(sort, "model_offload").model.components for sort in ("sdxl", "sdxl-refiner"))
    with turns(every) as seen:
        every.make("refiner", "sdxl", "model_offload")
    assert all(has_turn is owner for owner, has_turn in seen)
    order = [owner for owner, _ in groupby(owner for owner, _ in seen)]
    words = [base["text_encoder"], base["text_encoder_2"], refiner["text_encoder_2"]]
    assert order == [*words, base["unet"], refiner["unet"], base["vae"]]


@contextmanager
def turns(every: Models) -> Iterator[list[tuple[torch.nn.Module, torch.nn.Module | None]]]:
    """Of each layer that runs: the module that it is of, and the one that has its turn."""
    owners = {layer: part for part in every.parts("model_offload") for layer in part.modules() if layer is not part}
    seen: list[tuple[torch.nn.Module, torch.nn.Module | None]] = []
    handle = register_module_forward_pre_hook(
        lambda layer, _: seen.append((owners[layer], module_on(CPU))) if layer in owners else None
    )
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("row", ["txt2img", "encode"])
def test_tiles_have_a_say_beyond_their_size(every: Models, row: str) -> None:
    size = {"width": 96, "height": 96}
    levels, numbers = compared(every.make(row, "sdxl", "vae_tiling", **size), every.make(row, "sdxl", "full", **size))
    assert levels > 0 or numbers > 0
