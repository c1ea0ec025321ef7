"""Settings that make a denoiser faster change nothing but rounding, and a manifest names them."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from darkroom.tasks.catalogue import Family
from darkroom.tasks.settings import SettingsInvalid
from darkroom.worker.device import choose_placement, environment
from darkroom.worker.errors import DeviceUnavailable
from darkroom.worker.loading import LoadedModel, load_model
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.tuning import tune
from tests.conftest import TinyModels


@pytest.fixture(scope="module")
def loaded(tiny_models: TinyModels) -> Callable[[Family], LoadedModel]:
    settings = WorkerSettings(device="cpu")
    return lambda name: load_model(tiny_models(name), choose_placement(settings), settings)


def called(unet: Any, rows: int = 2) -> torch.Tensor:
    torch.manual_seed(0)
    pooled = {"text_embeds": torch.randn(rows, 48), "time_ids": torch.ones(rows, 6)}
    added = pooled if unet.config.addition_embed_type else None
    states = torch.randn(rows, 77, unet.config.cross_attention_dim)
    with torch.no_grad():
        found: torch.Tensor = unet(torch.randn(rows, 4, 8, 8), 500, states, added_cond_kwargs=added).sample
    return found


@pytest.mark.parametrize("family", ["sdxl", "sd"])
@pytest.mark.parametrize("speedup", ["channels_last", "fuse", "compile"])
def test_only_rounding_changes(loaded: Callable[[Family], LoadedModel], family: Family, speedup: str) -> None:
    model = loaded(family)
    before = called(model.components["unet"])
    tuned = {"unet": copy.deepcopy(model.components["unet"])}
    tune(tuned, replace(model.placement, speedups=frozenset([speedup])), backend="aot_eager")
    torch.testing.assert_close(called(tuned["unet"]), before, rtol=1e-4, atol=1e-5)
    called(tuned["unet"], rows=4)


def test_they_are_recorded_for_replay() -> None:
    placement = choose_placement(WorkerSettings(device="cpu", speedups="fuse, channels_last"))
    assert environment(placement)["speedups"] == "channels_last, fuse"
    assert "speedups" not in environment(choose_placement(WorkerSettings(device="cpu")))


def test_the_variable_is_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_SPEEDUPS", " compile,fuse ")
    assert WorkerSettings().speedups == {"compile", "fuse"}
    monkeypatch.setenv("DARKROOM_SPEEDUPS", "turbo")
    with pytest.raises(SettingsInvalid, match="DARKROOM_SPEEDUPS"):
        WorkerSettings()


def test_weights_that_move_about_cannot_be_sped_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkroom.worker.device._device", lambda _wish: torch.device("cuda:0"))
    with pytest.raises(DeviceUnavailable, match="model_offload moves weights about, which compile forbids"):
        choose_placement(WorkerSettings(memory="model_offload", speedups="compile"))
