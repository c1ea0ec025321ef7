"""The tiny models are the families' real structure."""

import hashlib
from pathlib import Path
from typing import get_args

import pytest
import torch
from transformers import CLIPTokenizer

from darkroom.tasks.catalogue import Family, FolderSource, ModelEntry
from darkroom.worker.models.device import Placement
from darkroom.worker.models.families import family
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.tiny import make_tiny
from darkroom.worker.models.words import Words
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels


def weights_digest(entry: ModelEntry) -> str:
    assert isinstance(entry.source, FolderSource)
    files = sorted(entry.source.path.rglob("*.safetensors"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@pytest.mark.parametrize("name", get_args(Family))
def test_entry_is_small_and_names_schedulers_that_exist(tiny_models: TinyModels, name: Family) -> None:
    entry = tiny_models(name)
    assert (entry.defaults.width, entry.defaults.height, entry.limits.min_side) == (64, 64, 32)
    assert entry.defaults.num_inference_steps == 4
    assert entry.family == name


def test_the_seed_alone_decides_the_weights(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    first, again, other = (make_tiny("sd", tmp_path / str(n), seed) for n, seed in enumerate((3, 3, 4)))
    assert weights_digest(first) == weights_digest(again) != weights_digest(other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler under numpy 2.4
@pytest.mark.parametrize("name", ["sdxl", "playground", "sd"])
def test_a_picture_comes_out_and_is_not_flat(
    tiny_models: TinyModels, settings: WorkerSettings, placement: Placement, name: Family
) -> None:
    model = load_model(tiny_models(name), placement, settings)
    pipe = family(name).pipeline("txt2img", model.components, model.options)
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        conditioning = family(name).encode_prompt(pipe, Words("a photo of a cat")).conditioning
        picture = pipe(
            **conditioning,
            width=64,
            height=64,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(7),
        ).images[0]
    assert picture.size == (64, 64)
    assert all(high - low > 50 for low, high in picture.convert("RGB").getextrema())


def test_tokenizers_are_clips(tiny_models: TinyModels, settings: WorkerSettings, placement: Placement) -> None:
    components = load_model(tiny_models("sdxl"), placement, settings).components
    first, second = components["tokenizer"], components["tokenizer_2"]
    assert isinstance(first, CLIPTokenizer)
    assert first.model_max_length == second.model_max_length == 77
    assert first.pad_token_id == first.eos_token_id == first.vocab_size - 1
    assert (second.pad_token, second.pad_token_id) == ("!", 0)
    ids = first("A photo of a cat").input_ids
    assert (ids[0], ids[-1], len(ids)) == (first.bos_token_id, first.eos_token_id, 7)  # a word each, start and end


def test_pooled_text_is_taken_at_the_end_of_the_text(
    tiny_models: TinyModels, settings: WorkerSettings, placement: Placement
) -> None:
    """An end of 2 in the config would have transformers pool at the largest id instead."""
    components = load_model(tiny_models("sdxl"), placement, settings).components
    for encoder in ("text_encoder", "text_encoder_2"):
        config = components[encoder].config
        assert config.eos_token_id == config.vocab_size - 1 == components["tokenizer"].eos_token_id


def test_playground_brings_its_statistics(
    tiny_models: TinyModels, settings: WorkerSettings, placement: Placement
) -> None:
    components = load_model(tiny_models("playground"), placement, settings).components
    vae = components["vae"].config
    assert vae.scaling_factor == 0.5
    assert vae.latents_mean == [-1.6574, 1.886, -1.383, 2.5155]
    assert type(components["scheduler"]).__name__ == "EDMDPMSolverMultistepScheduler"
    assert components["scheduler"].config.sigma_max == 80
