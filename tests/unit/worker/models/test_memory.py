"""Memory modes, applied to the real modules."""

import gc
from typing import Any, Self

import pytest
import torch

from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.models.memory import module_on, place
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


class Part(torch.nn.Linear):
    """Notes where it is sent; `too_large`: not all of it fits on the device."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.sent: list[str] = []
        self.too_large = False

    def to(self, device: Any) -> Self:  # type: ignore[override]
        self.sent.append("rest" if device == "cpu" else "device")
        if self.too_large and device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self


@pytest.fixture
def parts() -> tuple[Part, Part]:
    """Of two models, placed one after the other."""
    found = Part(), Part()
    for part in found:
        place({"unet": part}, Placement(CPU, torch.float32, "model_offload", 1))
        part.sent.clear()
    return found


def test_with_model_offload_the_modules_of_all_models_take_turns(parts: tuple[Part, Part]) -> None:
    one, other = parts
    for part in (one, one, other, one):
        part(torch.ones(1, 1))
        assert module_on(CPU) is part
    assert (one.sent, other.sent) == (["device", "rest", "device"], ["device", "rest"])


def test_a_module_that_does_not_fit_is_not_taken_for_one_that_is_there(parts: tuple[Part, Part]) -> None:
    one, large = parts
    one(torch.ones(1, 1))
    large.too_large = True
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            large(torch.ones(1, 1))
        assert module_on(CPU) is None
    one(torch.ones(1, 1))
    assert large.sent == ["device", "rest"] * 2
    assert one.sent == ["device", "rest", "device"]


def test_a_model_that_is_gone_has_no_turn(parts: tuple[Part, Part]) -> None:
    part = Part()
    place({"unet": part}, Placement(CPU, torch.float32, "model_offload", 1))
    part(torch.ones(1, 1))
    del part
    gc.collect()
    assert module_on(CPU) is None
