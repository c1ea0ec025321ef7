"""LoRA files that cannot be used: the code, what is said, and that all of it is said at once."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from darkroom.worker.adapters.fit import fit, rank_of
from darkroom.worker.adapters.lora_file import lora_header
from darkroom.worker.adapters.names import ModelLayers
from darkroom.worker.adapters.weights import read_lora
from darkroom.worker.errors import (
    AdapterCorrupt,
    AdapterError,
    AdapterIncompatible,
)
from tests.unit.worker.conftest import Models

Tensors = dict[str, torch.Tensor]

QUERY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
KEY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k"
FIRST = "lora_unet_conv_in"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


def matrices(stem: str = QUERY, rank: int = 4, inputs: int = 32, outputs: int = 32) -> Tensors:
    return {f"{stem}.lora_down.weight": torch.ones(rank, inputs), f"{stem}.lora_up.weight": torch.ones(outputs, rank)}


def refusal(layers: ModelLayers, path: Path, tensors: Tensors, **metadata: str) -> AdapterError:
    save_file(tensors, path, metadata or None)
    with pytest.raises(AdapterError) as caught:
        read_lora(path, layers)
    assert str(path) in caught.value.message
    return caught.value


def test_the_file_that_the_others_spoil_can_be_used(layers: ModelLayers, path: Path) -> None:
    save_file(matrices(), path)
    assert read_lora(path, layers).rank == rank_of(fit(lora_header(path), layers)) == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"{QUERY}.dora_scale", "DoRA"),
        ("unet.mid_block.attentions.0.proj_in.lora_magnitude_vector", "DoRA"),
        (f"{QUERY}.hada_w1_a", "LoHa"),
        (f"{QUERY}.lokr_w1", "LoKr"),
        (f"{QUERY}.lora_mid.weight", "Tucker"),
        (f"{QUERY}.diff", "changes of whole weights"),
        (f"{QUERY}.diff_b", "changes of whole weights"),
        ("unet.mid_block.attentions.0.proj_in.lora_B.bias", "changes of biases"),
        ("unet.mid_block.attentions.0.proj_in.lora_B.default.bias", "changes of biases"),
        ("lora_unet_conv_norm_out.w_norm", "changes of norms"),
        (f"{QUERY}.on_input", "IA3"),
        (f"{QUERY}.weight", "IA3"),
        ("base_model.model.mid_block.attentions.0.proj_in.ia3_l", "IA3"),
        (f"{QUERY}.oft_blocks", "OFT"),
        (f"{QUERY}.a1.weight", "GLoRA"),
        ("base_model.model.mid_block.attentions.0.proj_in.lora_E", "AdaLoRA"),
        ("base_model.model.embeddings.lora_embedding_A", "token embeddings"),
        ("bundle_emb.fox.string_to_param.*", "embeddings of new words"),
        (f"{QUERY}.scalar", "what is no part of a LoRA"),
        (f"{QUERY}.weight_scale", "quantized"),
    ],
)
def test_other_techniques(layers: ModelLayers, path: Path, name: str, said: str) -> None:
    error = refusal(layers, path, {**matrices(), name: torch.ones(4, 4)})
    assert error.code == "adapter_incompatible"
    assert said in error.message
    assert repr(name) in error.message
    assert "another" not in error.message.split(said)[1]


def test_a_technique_without_matrices_is_no_layer_that_lacks_them(layers: ModelLayers, path: Path) -> None:
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha")
    error = refusal(layers, path, {f"{stem}.{name}": torch.ones(1) for stem in (QUERY, KEY) for name in names})
    assert "LoHa (Hadamard products) is not run" in error.message
    assert "and 5 more" in error.message
    assert "lacks" not in error.message


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"control_model.input_blocks.0.0.weight"}, "a ControlNet"),
        ({"controlnet_down_blocks.0.weight", "conv_in.weight"}, "a ControlNet"),
        ({"lora_controlnet", "input_blocks.1.0.in_layers.2.up"}, "a ControlNet"),
        ({"lllite_unet_mid_block_x.down.0.weight"}, "a ControlNet"),
        ({"ip_adapter.1.to_k_ip.weight", "image_proj.norm.weight"}, "an IP-Adapter"),
        ({"emb_params"}, "a textual inversion"),
        ({"clip_l", "clip_g"}, "a textual inversion"),
        ({"model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.encoder.conv_in.bias"}, "a whole model"),
        ({"encoder.conv_in.weight", "decoder.conv_in.weight"}, "a VAE"),
        ({"text_model.embeddings.token_embedding.weight"}, "a text encoder"),
        ({"down_blocks.0.resnets.0.conv1.weight"}, "a denoiser"),
        ({"something", "else"}, "it holds 'else', 'something'"),
        (set(), "it holds no tensors"),
    ],
)
def test_no_lora_at_all(layers: ModelLayers, path: Path, tensors: set[str], said: str) -> None:
    error = refusal(layers, path, {name: torch.ones(2) for name in sorted(tensors)})
    assert isinstance(error, AdapterIncompatible)
    assert f"no LoRA: {'it seems to be ' if said.startswith('a') else ''}{said}" in error.message


def test_a_layer_that_the_model_lacks(layers: ModelLayers, path: Path) -> None:
    error = refusal(layers, path, {**matrices(), **matrices("lora_unet_mid_block_attentions_7_proj_in")})
    assert "layers that this model does not have: 'mid_block_attentions_7_proj_in'" in error.message
    assert QUERY not in error.message


@pytest.mark.parametrize(
    ("tensors", "metadata", "family"),
    [
        (matrices("lora_unet_x_attn2_to_k", inputs=768), {}, "Stable Diffusion 1"),
        (matrices("lora_unet_x_attn2_to_k", inputs=1024), {}, "Stable Diffusion 2"),
        (matrices("lora_unet_x_attn2_to_k", inputs=2048), {}, "SDXL"),
        (matrices("lora_unet_x_attn2_to_k", inputs=1280), {}, "SDXL's refiner"),
        (matrices("lora_te2_x"), {}, "SDXL"),
        (matrices("lora_unet_x"), {"ss_base_model_version": "sd_v1"}, "Stable Diffusion 1"),
        (matrices("lora_unet_x"), {"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL"),
        (matrices("lora_unet_x"), {"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "Stable Diffusion 2"),
        (matrices("lora_unet_x"), {"modelspec.architecture": "flux-1-dev/lora"}, "Flux"),
        (matrices("transformer.single_transformer_blocks.0.attn.to_q"), {}, "a diffusion transformer"),
        (matrices("lora_unet_double_blocks_0_img_attn_proj"), {}, "a diffusion transformer"),
    ],
)
def test_says_which_family_it_seems_to_be_for(
    layers: ModelLayers, path: Path, tensors: Tensors, metadata: dict[str, str], family: str
) -> None:
    error = refusal(layers, path, tensors, **metadata)
    assert f"layers that this model does not have (it seems to be made for {family}" in error.message


def test_no_family_is_made_up(layers: ModelLayers, path: Path) -> None:
    assert "seems" not in refusal(layers, path, matrices("lora_unet_x")).message


@pytest.mark.parametrize(
    ("down", "up", "stem", "said"),
    [
        ((4, 640), (640, 4), QUERY, "4x640 down and 640x4 up; the model's is 32x32"),
        ((4, 32), (32, 3), QUERY, "4x32 down and 32x3 up; the model's is 32x32"),
        ((4, 32, 3, 3), (32, 4, 1, 1), QUERY, "4x32x3x3 down"),
        ((4, 4), (16, 4), FIRST, "the model's is 16x4x3x3"),
        ((4, 4, 3, 3), (16, 4, 3, 3), FIRST, "16x4x3x3 up"),
        ((0, 32), (32, 0), QUERY, "0x32 down"),
        ((), (32, 4), QUERY, "one number down"),
        ((4,), (32,), QUERY, "4 down and 32 up"),
    ],
)
def test_other_shapes(
    layers: ModelLayers, path: Path, down: tuple[int, ...], up: tuple[int, ...], stem: str, said: str
) -> None:
    tensors = {f"{stem}.lora_down.weight": torch.ones(down), f"{stem}.lora_up.weight": torch.ones(up)}
    message = refusal(layers, path, tensors).message
    assert "shapes of another model: " in message
    assert said in message


@pytest.mark.parametrize("kernel", [(), (1, 1)])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_one_pixel_may_be_written_or_not(models: Models, path: Path, family: Any, kernel: tuple[int, ...]) -> None:
    """`proj_in` is a convolution of one pixel in Stable Diffusion 1, and a Linear in SDXL."""
    stem = "lora_unet_mid_block_attentions_0_proj_in"
    down, up = torch.ones(4, 32, *kernel), torch.ones(32, 4, *kernel)
    save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}, path)
    found = read_lora(path, models(family).components).parts["unet"]["mid_block.attentions.0.proj_in"]
    assert (found.down.shape, found.up.shape) == ((4, 32), (32, 4))


@pytest.mark.parametrize(("left", "said"), [("down", "down alone"), ("up", "up alone"), ("alpha", "alpha alone")])
def test_half_a_layer(layers: ModelLayers, path: Path, left: str, said: str) -> None:
    tensors = {**matrices(), f"{QUERY}.alpha": torch.tensor(4.0)}
    half = {name: tensor for name, tensor in tensors.items() if f".{left}" in name or f"_{left}." in name}
    message = refusal(layers, path, {**matrices(KEY), **half}).message
    assert f"a layer lacks a matrix: {QUERY.removeprefix('lora_unet_')!r} (it has {said})" in message


@pytest.mark.parametrize(("rank", "fits"), [(128, True), (129, False), (4096, False)])
def test_ranks_have_a_limit(layers: ModelLayers, path: Path, rank: int, fits: bool) -> None:
    if fits:
        save_file(matrices(rank=rank), path)
        assert read_lora(path, layers).rank == rank
    else:
        message = refusal(layers, path, matrices(rank=rank)).message
        assert f"a rank over 128, the most that an image can have: {QUERY[10:]!r} (rank {rank:,})" in message
        assert read_lora(path, layers, max_rank=rank).rank == rank


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8, torch.int64])
def test_quantized(layers: ModelLayers, path: Path, dtype: torch.dtype) -> None:
    tensors = {**matrices(), f"{QUERY}.lora_up.weight": torch.ones(32, 4).to(dtype)}
    message = refusal(layers, path, tensors).message
    assert f"quantized, or no numbers of weights: {QUERY[10:]!r} (" in message


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_real_numbers_of_all_kinds(layers: ModelLayers, path: Path, dtype: torch.dtype) -> None:
    save_file({name: tensor.to(dtype) / 2 for name, tensor in matrices().items()}, path)
    found = read_lora(path, layers).parts["unet"]["mid_block.attentions.0.transformer_blocks.0.attn1.to_q"]
    assert found.down.dtype == found.up.dtype == torch.float32
    assert torch.equal(found.up @ found.down, torch.ones(32, 32))


@pytest.mark.parametrize(
    ("alpha", "told"),
    [
        (torch.ones(2), "an alpha that is no number"),
        (torch.ones(0), "an alpha that is no number"),
        (torch.tensor(4, dtype=torch.uint8), "an alpha that is no number"),
        (torch.tensor(float("nan")), "numbers that are none"),
        (torch.tensor(float("inf")), "numbers that are none"),
    ],
)
def test_alphas_that_are_none(layers: ModelLayers, path: Path, alpha: torch.Tensor, told: str) -> None:
    assert told in refusal(layers, path, {**matrices(), f"{QUERY}.alpha": alpha}).message


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("matrix", ["down", "up"])
def test_numbers_that_are_none(layers: ModelLayers, path: Path, matrix: str, value: str) -> None:
    tensors = {**matrices(KEY), **matrices()}
    tensors[f"{QUERY}.lora_{matrix}.weight"][2, 3] = float(value)
    error = refusal(layers, path, tensors)
    assert isinstance(error, AdapterCorrupt)
    assert f"numbers that are none (NaN or infinity): {QUERY[10:]!r}" in error.message


def test_numbers_too_large_for_float32(layers: ModelLayers, path: Path) -> None:
    tensors = {name: tensor.double() * 1e300 for name, tensor in matrices().items()}
    assert "numbers that are none" in refusal(layers, path, tensors).message


def test_a_layer_under_two_names(layers: ModelLayers, path: Path) -> None:
    other = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {**matrices(), f"{other}.lora_A.weight": torch.ones(4, 32), f"{other}.lora_B.weight": torch.ones(32, 4)}
    assert "a layer under two names" in refusal(layers, path, tensors).message


def test_two_adapters_in_one_file(layers: ModelLayers, path: Path) -> None:
    stem = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {
        f"{stem}.lora_{matrix}.{name}.weight": torch.ones(4, 32) if matrix == "A" else torch.ones(32, 4)
        for matrix in "AB"
        for name in ("one", "two")
    }
    assert "two tensors for one place" in refusal(layers, path, tensors).message


def test_all_faults_are_told_at_once_the_first_few_of_each_by_name(layers: ModelLayers, path: Path) -> None:
    tensors: Tensors = {}
    for index in range(9):
        tensors |= matrices(f"lora_unet_nowhere_{index}")
    tensors |= {**matrices(inputs=64), f"{KEY}.dora_scale": torch.ones(1)}
    message = refusal(layers, path, tensors).message
    assert "'nowhere_0', 'nowhere_1', 'nowhere_2' and 6 more" in message
    assert "DoRA" in message
    assert "shapes of another model" in message


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("{", "Expecting property name"),
        ("[]", "it is no table"),
        ("[" * 100_000, "recursion"),
        ({"unet.r": 4}, "`lora_alpha` is None"),
        ({"unet.r": 4, "unet.lora_alpha": "4"}, "`lora_alpha` is 4, no number"),
        ({"unet.r": 4, "unet.lora_alpha": float("inf")}, "`lora_alpha` is inf"),
        ({"unet.r": 4, "unet.lora_alpha": True}, "`lora_alpha` is True"),
        ({"unet.r": 4, "unet.lora_alpha": 4, "unet.use_dora": True}, "`use_dora` is not run"),
        ({"unet.r": 4, "unet.lora_alpha": 4, "unet.init_lora_weights": "pissa"}, "the model's own weights"),
        ({"unet.r": 4, "unet.lora_alpha": 4, "unet.alpha_pattern": {"(a+)+b": 2}}, "a pattern that is no name"),
        ({"unet.r": 4, "unet.lora_alpha": 4, "unet.alpha_pattern": {"to_q": None}}, "`alpha_pattern` is None"),
        ({"unet.r": 4, "unet.lora_alpha": 4, "unet.rank_pattern": [1]}, "`rank_pattern` is no table"),
        ({"unet.r": 8, "unet.lora_alpha": 8}, "another rank than its metadata say: "),
    ],
)
def test_metadata_of_peft_that_cannot_be_followed(layers: ModelLayers, path: Path, metadata: Any, said: str) -> None:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    error = refusal(layers, path, matrices(), lora_adapter_metadata=text)
    assert isinstance(error, AdapterIncompatible)
    assert said in error.message


@pytest.mark.parametrize(("alpha", "fits"), [(2.0, True), (4.0, False)])
def test_two_alphas_must_be_one(layers: ModelLayers, path: Path, alpha: float, fits: bool) -> None:
    tensors = {**matrices(), f"{QUERY}.alpha": torch.tensor(alpha)}
    metadata = json.dumps({"unet.r": 4, "unet.lora_alpha": 2})
    if fits:
        save_file(tensors, path, {"lora_adapter_metadata": metadata})
        made = read_lora(path, layers).parts["unet"]["mid_block.attentions.0.transformer_blocks.0.attn1.to_q"]
        assert torch.equal(made.up, torch.full((32, 4), 0.5))
    else:
        error = refusal(layers, path, tensors, lora_adapter_metadata=metadata)
        assert "another alpha than its metadata say" in error.message
        assert "(4 and 2)" in error.message


def test_long_names_are_cut(layers: ModelLayers, path: Path) -> None:
    message = refusal(layers, path, {**matrices(), f"lora_unet_{'x' * 400}.lora_down.weight": torch.ones(1)}).message
    assert f"{'x' * 100}..." in message
    assert len(message) < 700


def test_a_name_that_is_none(layers: ModelLayers, path: Path) -> None:
    assert "a tensor's name of 5000 characters" in refusal(layers, path, {"." * 5000: torch.ones(1)}).message
