"""What a model's JSON may not say."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from darkroom.tasks.catalogue import Family
from darkroom.worker.errors import ModelCorrupt, ModelError, ModelIncompatible, ModelMissing, ModelUnsafe
from darkroom.worker.models.families import family
from darkroom.worker.models.layout import Layout, folder_layout
from tests.unit.worker.models.conftest import Copied


def layout_of(name: Family, folder: Path) -> Layout:
    return folder_layout(family(name), folder / "model")


@pytest.mark.parametrize(
    ("file", "keys", "error", "said"),
    [
        ("unet/config.json", {"auto_map": {"AutoModel": "evil.Model"}}, ModelUnsafe, "code of its own"),
        ("text_encoder/config.json", {"text_config": {"auto_map": {}}}, ModelUnsafe, "code of its own"),
        ("tokenizer/tokenizer_config.json", {"auto_map": ["evil.T", None]}, ModelUnsafe, "code of its own"),
        ("tokenizer/tokenizer_config.json", {"fast_tokenizer_files": ["../t.4.json"]}, ModelUnsafe, "other files"),
        ("text_encoder/config.json", {"transformers_weights": "x.safetensors"}, ModelUnsafe, "other files"),
        ("model_index.json", {"_class_name": ["pipeline", "Evil"]}, ModelUnsafe, "pipeline of its own"),
        ("model_index.json", {"unet": ["evil_module", "UNet2DConditionModel"]}, ModelUnsafe, "code of its own"),
        ("model_index.json", {"unet": ["diffusers", "UNet3DConditionModel"]}, ModelIncompatible, "UNet3D"),
        ("model_index.json", {"unet": [None, None]}, ModelIncompatible, "has no unet"),
        ("model_index.json", {"unet": None}, ModelIncompatible, "has no unet"),
        ("model_index.json", {"_class_name": "FluxPipeline"}, ModelIncompatible, "made for FluxPipeline"),
        ("unet/config.json", {"_class_name": "UNet3DConditionModel"}, ModelIncompatible, "UNet3D"),
        ("unet/config.json", {"quantization_config": {}}, ModelIncompatible, "quantized"),
        ("scheduler/scheduler_config.json", {"_class_name": "Evil"}, ModelIncompatible, "a Evil; the family sdxl"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "EDMEulerScheduler"},
            ModelIncompatible,
            "a EDMEulerScheduler",
        ),
    ],
)
def test_refuses(
    copied: Copied,
    tmp_path: Path,
    edit: Callable[..., None],
    file: str,
    keys: dict[str, Any],
    error: type[ModelError],
    said: str,
) -> None:
    copied("sdxl")
    edit(tmp_path / "model" / file, **keys)
    with pytest.raises(error, match=said) as caught:
        layout_of("sdxl", tmp_path)
    assert file in caught.value.message


def test_an_adapter_beside_a_text_encoder_would_load_another_model(copied: Copied, tmp_path: Path) -> None:
    copied("sd")
    adapter = {"base_model_name_or_path": "evil/model", "peft_type": "LORA"}
    (tmp_path / "model" / "text_encoder" / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(ModelUnsafe, match=r"adapter_config\.json"):
        layout_of("sd", tmp_path)


@pytest.mark.parametrize("pickle", ["diffusion_pytorch_model.bin", "model.ckpt", "weights.pt", "a.pth", "a.pkl"])
def test_weights_in_pickles_alone_are_refused_with_what_to_do(copied: Copied, tmp_path: Path, pickle: str) -> None:
    copied("sd")
    unet = tmp_path / "model" / "unet"
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / pickle)
    with pytest.raises(ModelUnsafe, match=pickle) as caught:
        layout_of("sd", tmp_path)
    assert "safetensors" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "wrong"), [("sd", "sdxl"), ("sdxl", "sd"), ("playground", "sdxl"), ("sdxl", "playground")]
)
def test_a_model_of_another_family_is_told_by_its_configs(
    copied: Copied, tmp_path: Path, name: Family, wrong: Family
) -> None:
    copied(name)
    with pytest.raises(ModelIncompatible) as caught:
        layout_of(wrong, tmp_path)
    assert "family" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"), [("{", "not JSON"), ("[]", "not a table"), ("[" * 100_000, "not JSON"), ("\x00", "not JSON")]
)
def test_broken_json_is_corrupt(copied: Copied, tmp_path: Path, text: str, said: str) -> None:
    copied("sd")
    (tmp_path / "model" / "unet" / "config.json").write_text(text)
    with pytest.raises(ModelCorrupt, match=said):
        layout_of("sd", tmp_path)


@pytest.mark.parametrize("lost", ["model_index.json", "vae", "vae/config.json", "tokenizer/merges.txt", "scheduler"])
def test_lost_configs_are_named(copied: Copied, tmp_path: Path, lost: str) -> None:
    copied("sd")
    path = tmp_path / "model" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ModelMissing, match=lost.partition("/")[0]):
        layout_of("sd", tmp_path)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="model is not there"):
        layout_of("sd", tmp_path)


def test_what_is_not_loaded_is_not_looked_at(copied: Copied, tmp_path: Path, edit: Callable[..., None]) -> None:
    copied("sd")
    model = tmp_path / "model"
    edit(model / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    (model / "safety_checker").mkdir()
    (model / "safety_checker" / "pytorch_model.bin").write_bytes(b"pickle")
    (model / "evil.py").write_text("raise SystemExit")
    assert not any("safety" in name or name.endswith(".py") for name in layout_of("sd", tmp_path).files)
