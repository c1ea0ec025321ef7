"""Settings that make a denoiser faster change nothing but rounding, and a manifest names them."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from darkroom.tasks.catalogue import Family
from darkroom.tasks.settings import SettingsInvalid
from darkroom.worker.errors import DeviceUnavailable, ModelIncompatible
from darkroom.worker.models.device import choose_placement, environment
from darkroom.worker.models.loading import LoadedModel, load_model, warm_sizes
from darkroom.worker.models.memory import place
from darkroom.worker.models.tuning import tune
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels


@pytest.fixture(scope="module")
def loaded(tiny_models: TinyModels) -> Callable[[Family], LoadedModel]:
    settings = WorkerSettings(device="cpu")
    return lambda name: load_model(tiny_models(name), choose_placement(settings), settings)


def called(unet: Any, rows: int = 2, height: int = 8, width: int = 8) -> torch.Tensor:
    torch.manual_seed(0)
    pooled = {"text_embeds": torch.randn(rows, 48), "time_ids": torch.ones(rows, 6)}
    added = pooled if unet.config.addition_embed_type else None
    states = torch.randn(rows, 77, unet.config.cross_attention_dim)
    with torch.no_grad():
        found: torch.Tensor = unet(torch.randn(rows, 4, height, width), 500, states, added_cond_kwargs=added).sample
    return found


@pytest.mark.parametrize(
    ("speedup", "family"),
    [
        *product(["channels_last", "fuse"], ["sdxl", "sd"]),
        ("compile", "sdxl"),
        pytest.param("compile", "sd", marks=pytest.mark.thorough),
    ],
)
def test_only_rounding_changes(loaded: Callable[[Family], LoadedModel], family: Family, speedup: str) -> None:
    model = loaded(family)
    before = called(model.components["unet"])
    tuned = {"unet": copy.deepcopy(model.components["unet"])}
    tune(tuned, replace(model.placement, speedups=frozenset([speedup])), [(64, 64)], backend="aot_eager")
    torch.testing.assert_close(called(tuned["unet"]), before, rtol=1e-4, atol=1e-5)
    with ThreadPoolExecutor(1) as another:  # as the engine's, which has settings of its own
        for rows in (1, 2, 4, 8):
            another.submit(called, tuned["unet"], rows).result()


def test_only_sizes_to_be_ready_for_are_compiled(loaded: Callable[[Family], LoadedModel]) -> None:
    model, compiled = loaded("sdxl"), list[int]()

    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Callable[..., Any]:
        compiled.append(len(graph.graph.nodes))
        return graph.forward

    tuned = {"unet": copy.deepcopy(model.components["unet"])}
    tune(tuned, replace(model.placement, speedups=frozenset(["compile"])), [(128, 64)], backend=backend)
    torch._dynamo.reset()
    before = called(tuned["unet"])
    assert not compiled
    called(tuned["unet"], height=8, width=16)
    found = len(compiled)
    assert found
    called(tuned["unet"], height=8, width=16)
    torch.testing.assert_close(called(tuned["unet"]), before)
    assert len(compiled) == found


def test_a_size_that_the_model_does_not_make_is_refused(tiny_models: TinyModels) -> None:
    entry, placement = tiny_models("sdxl"), choose_placement(WorkerSettings(device="cpu"))
    assert warm_sizes(entry, placement) == ((entry.defaults.width, entry.defaults.height),)
    assert warm_sizes(entry, replace(placement, warm_sizes=((64, 64),))) == ((64, 64),)
    for size in ((60, 64), (64, 8192)):
        with pytest.raises(ModelIncompatible, match="DARKROOM_WARM_SIZES"):
            warm_sizes(entry, replace(placement, warm_sizes=(size,)))


def test_sizes_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_WARM_SIZES", "1024x1024, 768X1344")
    assert WorkerSettings().warm_sizes == ((1024, 1024), (768, 1344))
    for wrong in ("1024", "1024x", "ax64", "1x2x3"):
        monkeypatch.setenv("DARKROOM_WARM_SIZES", wrong)
        with pytest.raises(SettingsInvalid, match="DARKROOM_WARM_SIZES: write sizes as"):
            WorkerSettings()


def test_they_are_recorded_for_replay() -> None:
    asked = {"device": "cpu", "speedups": "fuse, channels_last", "warm_sizes": "64x64"}
    found = environment(choose_placement(WorkerSettings.model_validate(asked)))
    assert found["speedups"] == "channels_last, fuse" and "compiled_sizes" not in found
    found = environment(choose_placement(WorkerSettings.model_validate({**asked, "speedups": "compile"})))
    assert found["compiled_sizes"] == "64x64"
    assert "speedups" not in environment(choose_placement(WorkerSettings(device="cpu")))


def test_the_variable_is_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_SPEEDUPS", " compile,fuse ")
    assert WorkerSettings().speedups == {"compile", "fuse"}
    monkeypatch.setenv("DARKROOM_SPEEDUPS", "none")
    assert WorkerSettings().speedups == frozenset()
    for wrong in ("turbo", "none,compile", "auto, fuse"):
        monkeypatch.setenv("DARKROOM_SPEEDUPS", wrong)
        with pytest.raises(SettingsInvalid, match=f"^DARKROOM_SPEEDUPS: {wrong.split(',')[0]} .* channels_last, fuse"):
            WorkerSettings()
    monkeypatch.setenv("DARKROOM_SPEEDUPS", "Auto")
    assert WorkerSettings().speedups == "auto"


def test_weights_that_move_about_cannot_be_sped_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkroom.worker.models.device._device", lambda _wish: torch.device("cuda:0"))
    with pytest.raises(DeviceUnavailable, match="model_offload moves weights about, which compile forbids"):
        choose_placement(WorkerSettings(memory="model_offload", speedups="compile"))
    assert choose_placement(WorkerSettings(memory="model_offload")).speedups == frozenset()
    assert choose_placement(WorkerSettings()).speedups == {"graphs"}


def test_sliced_attention_and_fused_products_replace_one_another(loaded: Callable[[Family], LoadedModel]) -> None:
    with pytest.raises(DeviceUnavailable, match="each put their own attention"):
        choose_placement(WorkerSettings(device="cpu", memory="attention_slicing", speedups="channels_last, fuse"))
    placement = choose_placement(WorkerSettings(device="cpu", memory="attention_slicing", speedups="channels_last"))
    unet = copy.deepcopy(loaded("sd").components["unet"])
    place({"unet": unet}, placement)
    tune({"unet": unet}, placement, [])
    assert {type(one).__name__ for one in unet.attn_processors.values()} == {"SlicedAttnProcessor"}


def test_graphs_are_for_cuda() -> None:
    assert choose_placement(WorkerSettings(device="cpu")).speedups == frozenset()
    with pytest.raises(DeviceUnavailable, match="graphs are CUDA's, the worker runs on cpu"):
        choose_placement(WorkerSettings(device="cpu", speedups="graphs"))
