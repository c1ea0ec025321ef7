"""Memory modes, applied to the real modules."""

from typing import Any

import pytest
import torch

from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.models.memory import place
from darkroom.worker.settings import MemoryMode, WorkerSettings
from tests.conftest import TinyModels

CPU = torch.device("cpu")


@pytest.fixture
def loaded(tiny_models: TinyModels, settings: WorkerSettings) -> Any:
    def load(mode: MemoryMode) -> LoadedModel:
        return load_model(tiny_models("sd"), Placement(CPU, torch.float32, mode, 1), settings)

    return load


def denoise(model: LoadedModel) -> torch.Tensor:
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        predicted: torch.Tensor = model.components["unet"](latents, 500, torch.ones(1, 77, 32)).sample
    return predicted


def decode(model: LoadedModel, side: int) -> torch.Tensor:
    with torch.no_grad():
        picture: torch.Tensor = model.components["vae"].decode(torch.ones(1, 4, side, side)).sample
    return picture


def test_vae_tiling_is_on_and_leaves_small_pictures_as_they_are(loaded: Any) -> None:
    full, tiled = loaded("full"), loaded("vae_tiling")
    assert tiled.components["vae"].use_tiling
    assert not full.components["vae"].use_tiling
    assert torch.equal(decode(full, 8), decode(tiled, 8))
    assert decode(tiled, 16).shape == decode(full, 16).shape


def test_attention_slicing_changes_rounding_alone(loaded: Any) -> None:
    full, sliced = loaded("full"), loaded("attention_slicing")
    kinds = {type(processor).__name__ for processor in sliced.components["unet"].attn_processors.values()}
    assert kinds == {"SlicedAttnProcessor"}
    assert torch.allclose(denoise(full), denoise(sliced), atol=1e-4)


@pytest.mark.parametrize("mode", ["model_offload", "sequential_offload"])
def test_offload_hooks_leave_the_numbers_alone(loaded: Any, mode: MemoryMode) -> None:
    """With a CPU as the device the hooks move nothing, but they are the ones that a GPU gets."""
    full, hooked = loaded("full"), loaded(mode)
    assert all(hasattr(hooked.components[name], "_hf_hook") for name in hooked.family.modules)
    assert torch.equal(denoise(full), denoise(hooked))
    assert torch.equal(decode(full, 8), decode(hooked, 8))


def test_model_offload_sends_the_vae_back_when_the_next_job_begins(loaded: Any) -> None:
    model = loaded("full")
    modules = {name: model.components[name] for name in model.family.modules}
    place(modules, Placement(CPU, torch.float32, "model_offload", 1))
    first, last = modules["text_encoder"]._hf_hook, modules["vae"]._hf_hook
    assert first.prev_module_hook.hook is last
    assert last.prev_module_hook.model is modules["unet"]
