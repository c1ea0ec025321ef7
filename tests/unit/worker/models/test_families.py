"""Families: prompts become tensors, and models of another family are told apart."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from darkroom.tasks.catalogue import Family
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.models.device import Placement
from darkroom.worker.models.families import family
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.models.words import Words
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels


@pytest.fixture
def encode(tiny_models: TinyModels, settings: WorkerSettings, placement: Placement) -> Any:
    @cache
    def load(name: Family) -> LoadedModel:
        return load_model(tiny_models(name), placement, settings)

    def run(
        name: Family, prompt: str, negative: str | None, guidance: bool = True, **options: Any
    ) -> dict[str, torch.Tensor]:
        model = load(name)
        pipe = family(name).pipeline("txt2img", model.components, {**model.options, **options})
        with torch.no_grad():
            return family(name).encode_prompt(pipe, Words(prompt, negative, guidance)).conditioning

    return run


@pytest.mark.parametrize("name", ["sdxl", "playground"])
def test_sdxl_joins_two_encoders_and_pools_the_second(encode: Any, name: Family) -> None:
    found = encode(name, "a cat", "a dog")
    assert {key: tuple(value.shape) for key, value in found.items()} == {
        "prompt_embeds": (1, 77, 80),
        "negative_prompt_embeds": (1, 77, 80),
        "pooled_prompt_embeds": (1, 48),
        "negative_pooled_prompt_embeds": (1, 48),
    }
    assert not torch.equal(found["prompt_embeds"], found["negative_prompt_embeds"])


def test_no_negative_prompt_and_an_empty_one_differ(encode: Any) -> None:
    none, empty = encode("sdxl", "a cat", None), encode("sdxl", "a cat", "")
    assert not none["negative_prompt_embeds"].any()
    assert not none["negative_pooled_prompt_embeds"].any()
    assert empty["negative_prompt_embeds"].any()
    assert torch.equal(none["prompt_embeds"], empty["prompt_embeds"])


def test_a_model_that_does_not_force_zeros_encodes_the_empty_prompt(encode: Any) -> None:
    none = encode("sdxl", "a cat", None, force_zeros_for_empty_prompt=False)
    assert torch.equal(none["negative_prompt_embeds"], encode("sdxl", "a cat", "")["negative_prompt_embeds"])


def test_sd_encodes_the_missing_negative_prompt_as_empty(encode: Any) -> None:
    none, empty = encode("sd", "a cat", None), encode("sd", "a cat", "")
    assert none["prompt_embeds"].shape == (1, 77, 32)
    assert torch.equal(none["negative_prompt_embeds"], empty["negative_prompt_embeds"])


@pytest.mark.parametrize("name", ["sdxl", "sd"])
def test_without_guidance_there_is_no_negative_side(encode: Any, name: Family) -> None:
    assert not [key for key in encode(name, "a cat", None, guidance=False) if key.startswith("negative")]


@pytest.mark.parametrize(("prompt", "tokens"), [("", 0), ("a cat", 2), ("a photo of the sea", 5), ("a " * 200, 200)])
def test_tokens_are_counted_without_start_end_and_limit(
    tiny_models: TinyModels, settings: WorkerSettings, placement: Placement, prompt: str, tokens: int
) -> None:
    model = load_model(tiny_models("sd"), placement, settings)
    assert model.family.count_tokens(model.components["tokenizer"], prompt) == tokens


def parts(**configs: dict[str, Any]) -> dict[str, Any]:
    """Stand-ins with configs alone: what is checked before a model is used."""
    return {name: SimpleNamespace(config=Config(config)) for name, config in configs.items()}


class Config(dict[str, Any]):
    __getattr__ = dict.__getitem__


UNET = {"addition_embed_type": "text_time", "cross_attention_dim": 80, "in_channels": 4}
TEXTS: dict[str, dict[str, Any]] = {"text_encoder": {"hidden_size": 32}, "text_encoder_2": {"hidden_size": 48}}
STATISTICS = {"latents_mean": [0] * 4, "latents_std": [1] * 4}


@pytest.mark.parametrize(
    ("name", "components", "said"),
    [
        ("sdxl", parts(unet={**UNET, "addition_embed_type": None}, **TEXTS), r"unet/config\.json: .* size"),
        ("sdxl", parts(unet={**UNET, "cross_attention_dim": 2048}, **TEXTS), "2048 wide"),
        ("sdxl", parts(unet={**UNET, "in_channels": 8}, **TEXTS), "8 channels; 4, or 9 of an inpainting model"),
        ("playground", parts(unet=UNET, vae={}, **TEXTS), r"vae/config\.json: .* latents_mean"),
        ("playground", parts(unet=UNET, vae={**STATISTICS, "latents_std": None}, **TEXTS), "latents_std"),
        ("sd", parts(unet={**UNET, "cross_attention_dim": 1024}, **TEXTS), "1024 wide"),
        ("sd", parts(unet={**UNET, "cross_attention_dim": 32}, **TEXTS), "SDXL"),
    ],
)
def test_parts_that_do_not_fit_are_refused(name: Family, components: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelIncompatible, match=said):
        family(name).check(components)


def test_pipelines_are_diffusers_own(tiny_models: TinyModels, settings: WorkerSettings, placement: Placement) -> None:
    model = load_model(tiny_models("sd"), placement, settings)
    pipe = model.family.pipeline("img2img", model.components, model.options)
    assert type(pipe).__module__.startswith("diffusers.")
    assert pipe.safety_checker is None
