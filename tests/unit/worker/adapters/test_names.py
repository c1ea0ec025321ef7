"""Every layer of a model, and its names in the original releases."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from darkroom.tasks.catalogue import Family
from darkroom.worker.adapters.names import Layer, ModelLayers
from tests.unit.worker.conftest import Models
from tests.unit.worker.models.original import unet_key


def sdxl() -> UNet2DConditionModel:
    """The real one's structure, without memory for its weights."""
    with torch.device("meta"):
        return UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )


def test_names_that_sd_scripts_writes_for_sdxl() -> None:
    """As they stand in published files."""
    layers = ModelLayers({"unet": sdxl()})
    assert len(layers.parts["unet"]) == 794
    middle = "mid_block.attentions.0.transformer_blocks.0"
    known = {
        "input_blocks_4_1_transformer_blocks_0_attn1_to_q": (
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
        ),
        "input_blocks_8_1_transformer_blocks_9_ff_net_0_proj": (
            "down_blocks.2.attentions.1.transformer_blocks.9.ff.net.0.proj"
        ),
        "input_blocks_7_1_proj_out": "down_blocks.2.attentions.0.proj_out",
        "input_blocks_6_0_op": "down_blocks.1.downsamplers.0.conv",
        "input_blocks_4_0_skip_connection": "down_blocks.1.resnets.0.conv_shortcut",
        "input_blocks_0_0": "conv_in",
        "middle_block_1_transformer_blocks_0_attn2_to_out_0": f"{middle}.attn2.to_out.0",
        "middle_block_2_in_layers_2": "mid_block.resnets.1.conv1",
        "output_blocks_0_1_transformer_blocks_9_attn2_to_v": "up_blocks.0.attentions.0.transformer_blocks.9.attn2.to_v",
        "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks_5_0_emb_layers_1": "up_blocks.1.resnets.2.time_emb_proj",
        "output_blocks_8_0_out_layers_3": "up_blocks.2.resnets.2.conv2",
        "time_embed_2": "time_embedding.linear_2",
        "label_emb_0_0": "add_embedding.linear_1",
        "out_2": "conv_out",
    }
    found = {name: layers.find("unet", name) for name in known}
    assert {name: layer.path for name, layer in found.items() if layer} == known


def test_all_layers_of_sdxl_have_names_of_the_original_release() -> None:
    """Held against the names under which the tests write whole models, which diffusers reads."""
    unet = sdxl()
    layers = ModelLayers({"unet": unet})
    for path, layer in layers.parts["unet"].items():
        name = unet_key(f"{path}.weight", unet).removesuffix(".weight")
        assert layers.find("unet", name) == layers.find("unet", name.replace(".", "_")) == layer


@pytest.mark.parametrize("family", ["sd", "sdxl", "sdxl-refiner"])
def test_no_two_layers_share_a_name(models: Models, family: Family) -> None:
    components = models(family).components
    layers = ModelLayers(components)
    for part, held in layers.parts.items():
        for path, layer in held.items():
            names = [path, path.replace(".", "_")]
            if part == "unet":
                original = unet_key(f"{path}.weight", components["unet"]).removesuffix(".weight")
                names += [original, original.replace(".", "_")]
            assert {layers.find(part, name) for name in names} == {layer}


def test_text_encoders_are_found_with_and_without_text_model(models: Models) -> None:
    layers = ModelLayers(models("sdxl").components)
    paths = {"text_encoder": "encoder", "text_encoder_2": "text_model.encoder"}
    for part, path in paths.items():
        wanted = layers.parts[part][f"{path}.layers.1.self_attn.out_proj"]
        names = ("encoder.layers.1.self_attn.out_proj", "text_model.encoder.layers.1.self_attn.to_out")
        for name in (*names, "text_model_encoder_layers_1_self_attn_out_proj"):
            assert layers.find(part, name) == wanted


def test_a_name_without_its_part_must_be_of_one_alone(models: Models) -> None:
    layers = ModelLayers(models("sdxl").components)
    assert layers.find(None, "conv_in") == Layer("unet", "conv_in", (16, 4, 3, 3))
    assert layers.find(None, "text_projection") == layers.parts["text_encoder_2"]["text_projection"]
    assert layers.find(None, "text_model.encoder.layers.0.mlp.fc1") is None
    assert layers.find("unet", "text_projection") is None
    assert layers.find("vae", "conv_in") is None
