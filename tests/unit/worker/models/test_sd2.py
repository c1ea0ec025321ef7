"""Stable Diffusion 2.x: by the same family, told apart by its own configs alone."""

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from darkroom.tasks.catalogue import FileSource, ModelEntry
from darkroom.worker.models.device import Placement
from darkroom.worker.models.families import family
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.models.words import Words
from darkroom.worker.settings import WorkerSettings
from tests.unit.worker.models.conftest import Copied
from tests.unit.worker.models.original import openclip, original_checkpoint, prefixed


@pytest.fixture
def sd2(copied: Copied, tmp_path: Path) -> ModelEntry:
    """The tiny SD 1.5 with what 2.x changed: OpenCLIP's text encoder, linear projections, v-prediction."""
    entry, folder = copied("sd"), tmp_path / "model"
    old = UNet2DConditionModel.load_config(folder / "unet")
    changed = {"use_linear_projection": True, "upcast_attention": True, "attention_head_dim": [2, 4, 4, 4]}
    UNet2DConditionModel.from_config({**old, **changed}).save_pretrained(folder / "unet")
    text = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    text.hidden_act = "gelu"
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    scheduler = DDIMScheduler(prediction_type="v_prediction", clip_sample=False, steps_offset=1)
    scheduler.save_pretrained(folder / "scheduler")
    index = (folder / "model_index.json").read_text()
    (folder / "model_index.json").write_text(index.replace("PNDMScheduler", "DDIMScheduler"))
    return entry


def test_its_configs_come_through(sd2: ModelEntry, settings: WorkerSettings, placement: Placement) -> None:
    components = load_model(sd2, placement, settings).components
    assert components["scheduler"].config.prediction_type == "v_prediction"
    assert components["unet"].config.upcast_attention
    assert components["text_encoder"].config.hidden_act == "gelu"


def test_it_makes_pictures(sd2: ModelEntry, settings: WorkerSettings, placement: Placement) -> None:
    model = load_model(sd2, placement, settings)
    pipe = family("sd").pipeline("txt2img", model.components, model.options)
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        conditioning = model.family.encode_prompt(pipe, Words("a cat")).conditioning
        picture = pipe(**conditioning, width=64, height=64, num_inference_steps=2).images[0]
    assert picture.size == (64, 64)


def test_one_file_in_the_original_layout(
    sd2: ModelEntry, settings: WorkerSettings, placement: Placement, tmp_path: Path
) -> None:
    whole = load_model(sd2, placement, settings)
    save_file(_original(whole), tmp_path / "v2.safetensors")
    source = FileSource(path=tmp_path / "v2.safetensors", config=tmp_path / "model")
    single = sd2.model_copy(update={"name": "sd2-single", "source": source})
    loaded = load_model(single, placement, settings)
    for part in loaded.family.modules:
        found, expected = (model.components[part].state_dict() for model in (loaded, whole))
        assert [key for key, value in found.items() if not value.equal(expected[key])] == []


def _original(model: LoadedModel) -> dict[str, torch.Tensor]:
    """2.x files hold the text encoder as OpenCLIP's, with a projection that nobody uses."""
    tensors = original_checkpoint("sd", model.components)
    text = prefixed("text_model.", model.components["text_encoder"].state_dict())
    renamed = prefixed("cond_stage_model.model.", openclip({**text, "text_projection.weight": torch.eye(32)}))
    kept = {key: value for key, value in tensors.items() if not key.startswith("cond_stage_model.")}
    return {key: value.contiguous() for key, value in {**kept, **renamed}.items()}
