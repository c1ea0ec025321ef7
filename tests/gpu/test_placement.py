"""Memory modes and dtypes on a CUDA device."""

import pytest
import torch

from darkroom.worker.models.device import choose_placement, environment
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.models.words import Words
from darkroom.worker.settings import MemoryMode, WorkerSettings
from tests.conftest import TinyModels

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def picture(model: LoadedModel) -> torch.Tensor:
    """One picture (3, 64, 64) in 0…1, by the stock pipeline."""
    pipe = model.family.pipeline("txt2img", model.components, model.options)
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        conditioning = model.family.encode_prompt(pipe, Words("a cat")).conditioning
        generator = torch.Generator().manual_seed(1)
        made: torch.Tensor = pipe(
            **conditioning, width=64, height=64, num_inference_steps=2, generator=generator, output_type="pt"
        ).images[0]
    return made.float().cpu()


def load(tiny_models: TinyModels, memory: MemoryMode, dtype: str = "float32") -> LoadedModel:
    settings = WorkerSettings.model_validate({"device": "cuda", "memory": memory, "dtype": dtype})
    return load_model(tiny_models("sdxl"), choose_placement(settings), settings)


@pytest.mark.parametrize("memory", ["vae_tiling", "attention_slicing", "model_offload", "sequential_offload"])
def test_every_memory_mode_makes_the_same_picture(tiny_models: TinyModels, memory: MemoryMode) -> None:
    full = picture(load(tiny_models, "full"))
    assert torch.allclose(picture(load(tiny_models, memory)), full, atol=2e-2)


def test_model_offload_leaves_one_module_on_the_device(tiny_models: TinyModels) -> None:
    model = load(tiny_models, "model_offload")
    for _ in range(2):
        picture(model)
        there = [name for name in model.family.modules if next(model.components[name].parameters()).is_cuda]
        assert there == ["vae"]


@pytest.mark.parametrize(("dtype", "vae"), [("float16", torch.float32), ("bfloat16", torch.bfloat16)])
def test_half_precision_runs(tiny_models: TinyModels, dtype: str, vae: torch.dtype) -> None:
    model = load(tiny_models, "full", dtype)
    assert model.components["vae"].dtype == vae
    assert torch.isfinite(picture(model)).all()


def test_the_environment_names_the_gpu(tiny_models: TinyModels) -> None:
    found = environment(load(tiny_models, "full").placement)
    assert found["gpu"] == torch.cuda.get_device_name(0)
    assert {"cuda", "cudnn", "tf32_convolutions"} <= found.keys()
