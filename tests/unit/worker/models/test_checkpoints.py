"""Files that are taken for models of a family, and what is said of each."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from darkroom.tasks.catalogue import Family
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.models.checkpoints import check_checkpoint
from darkroom.worker.models.families import family
from darkroom.worker.models.weights import inspect_weights

UNET, VAE = "model.diffusion_model.out.2.weight", "first_stage_model.decoder.conv_in.weight"
FIRST = "model.diffusion_model.input_blocks.0.0.weight"
SD = [UNET, VAE, "cond_stage_model.transformer.text_model.final_layer_norm.bias"]
SDXL = [UNET, VAE, "conditioner.embedders.0.transformer.x", "conditioner.embedders.1.model.ln_final.weight"]

REFINER = [UNET, VAE, "conditioner.embedders.0.model.ln_final.weight"]


def check(name: Family, folder: Path, names: list[str], channels: int = 4) -> None:
    tensors = {name: torch.zeros(1) for name in names}
    save_file(
        {**tensors, **({FIRST: torch.zeros(8, channels, 3, 3)} if UNET in names else {})}, folder / "x.safetensors"
    )
    check_checkpoint(family(name), inspect_weights(folder / "x.safetensors"))


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("sd", SD),
        ("sd", [*SD, "model_ema.decay", "control_model.x", "v_pred"]),
        ("sdxl", SDXL),
        ("playground", [*SDXL, "edm_mean"]),
        ("sdxl-refiner", REFINER),
    ],
)
def test_whole_models_pass(tmp_path: Path, name: Family, names: list[str]) -> None:
    check(name, tmp_path, names)


@pytest.mark.parametrize(
    ("name", "names", "said"),
    [
        ("sdxl", ["lora_unet_input_blocks_1_1_proj_in.lora_down.weight", "lora_te1_x.alpha"], "a LoRA"),
        ("sd", ["unet.down_blocks.0.attentions.0.to_q.lora_A.weight"], "a LoRA"),
        ("sd", ["lora_te_text_model_encoder_layers_0.hada_w1_a"], "a LoRA"),
        ("sd", ["control_model.input_blocks.0.0.weight"], "a ControlNet"),
        ("sdxl", ["clip_l", "clip_g"], "a textual inversion"),
        ("sd", ["emb_params"], "a textual inversion"),
        ("sdxl", ["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"], "an IP-Adapter"),
        ("sdxl", ["model.diffusion_model_.double_blocks.0.img_attn.qkv.weight"], "a diffusion transformer"),
        ("sdxl", ["down_blocks.0.resnets.0.conv1.weight"], "one part of a model"),
        ("sd", ["encoder.conv_in.weight", "decoder.conv_in.weight"], "one part of a model"),
        ("sd", ["something.else"], "no weights for the unet, vae, text_encoder"),
        (
            "sdxl",
            [UNET, "conditioner.embedders.0.model.ln_final.weight", VAE],
            "SDXL's refiner, of the family `sdxl-refiner`",
        ),
        ("sdxl-refiner", SDXL, "SDXL's kind, of the family `sdxl`"),
        ("sdxl-refiner", SD, "Stable Diffusion 1 or 2, of the family `sd`"),
        ("sdxl", SD, "Stable Diffusion 1 or 2, of the family `sd`"),
        ("sd", SDXL, "SDXL's kind, of the family `sdxl`"),
        ("sd", [UNET, SD[2]], "no weights for the vae"),
        ("sdxl", [*SDXL, "model.diffusion_model.x.scale_weight"], "quantized"),
        ("sdxl", [*SDXL, "scaled_fp8"], "quantized"),
    ],
)
def test_others_are_called_by_their_names(tmp_path: Path, name: Family, names: list[str], said: str) -> None:
    with pytest.raises(ModelIncompatible, match=said) as caught:
        check(name, tmp_path, names)
    assert "x.safetensors" in caught.value.message


@pytest.mark.parametrize(("channels", "said"), [(8, "for editing"), (5, "a depth"), (7, "7 channels")])
def test_denoisers_that_read_more_than_latents(tmp_path: Path, channels: int, said: str) -> None:
    with pytest.raises(ModelIncompatible, match=said):
        check("sd", tmp_path, SD, channels)


def test_an_inpainting_model_is_one(tmp_path: Path) -> None:
    check("sd", tmp_path, SD, 9)
