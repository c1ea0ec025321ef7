"""The file of a trained LoRA: what others and ours read of it."""

import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load

from darkroom.worker.adapters.facts import inspect_lora
from darkroom.worker.adapters.weights import read_lora
from darkroom.worker.training.trainer import Trainer
from tests.unit.worker.adapters.writers import Deltas, assert_same, fused_by_diffusers, products
from tests.unit.worker.training.conftest import Subjects, options, train


def trained_deltas(trainer: Trainer, scale: float) -> Deltas:
    """What the training's own matrices add to the weights."""
    found = {}
    for one in trainer._lora:
        product = one.up.detach().double().flatten(1) @ one.down.detach().double().flatten(1)
        found[one.part, one.path] = product * scale
    return found


@pytest.mark.parametrize("name", ["sdxl", "playground", "sd"])
@pytest.mark.parametrize(("targets", "alpha"), [("attention", None), ("all", 1.0)])
def test_ours_and_diffusers_read_what_was_trained(
    subjects: Subjects, tmp_path: Path, name: str, targets: str, alpha: float | None
) -> None:
    model, path = subjects(name), tmp_path / "it.safetensors"
    trainer = train(model, options(targets=targets, alpha=alpha, text_encoder=True, warmup_steps=0), steps=2)
    path.write_bytes(trainer.lora({}))
    expected = trained_deltas(trainer, 1.0 if alpha is None else alpha / 4)
    assert_same(products(read_lora(path, model.components)), expected)
    changed = {
        key: delta for key, delta in expected.items() if delta.abs().max() > 0
    }  # the last of SDXL's first encoder
    assert_same(fused_by_diffusers(path, model), changed)
    assert len(changed) > 0.8 * len(expected)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        (
            "sdxl",
            ["lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q", "lora_te1_text_model", "lora_te2_text_model"],
        ),
        ("sd", ["lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", "lora_te_text_model_encoder"]),
    ],
)
def test_names_are_those_of_sd_scripts(subjects: Subjects, name: str, layers: list[str]) -> None:
    tensors = load(train(subjects(name), options(text_encoder=True, alpha=3)).lora({}))
    assert {key.rpartition(".lora_")[2] for key in tensors if ".lora_" in key} == {"down.weight", "up.weight"}
    for layer in layers:
        assert any(key.startswith(layer) for key in tensors)
    assert {float(one) for key, one in tensors.items() if key.endswith(".alpha")} == {3.0}
    assert {one.dtype for one in tensors.values()} == {torch.float32}


def test_a_layer_is_the_module_that_peft_would_have(subjects: Subjects) -> None:
    attention = load(train(subjects("sdxl"), options()).lora({}))
    every = load(train(subjects("sdxl"), options(targets="all")).lora({}))
    modules = dict(subjects("sdxl").components["unet"].named_modules())
    projections = [path for path in modules if path.endswith((".to_q", ".to_k", ".to_v", ".to_out.0"))]
    blocks = [
        path
        for path, module in modules.items()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        and path.startswith(("down_blocks", "mid_block", "up_blocks"))
        and "samplers" not in path
    ]
    assert (len(attention), len(every)) == (3 * len(projections), 3 * len(blocks))


def test_what_it_says_of_itself(subjects: Subjects, tmp_path: Path) -> None:
    asked = options(alpha=2, targets="all")
    data = train(subjects("sd-v"), asked, steps=1).lora({"ss_output_name": "fox", "modelspec.title": "A fox ü"})
    path = tmp_path / "it.safetensors"
    path.write_bytes(data)
    with safe_open(path, "pt") as file:
        said = file.metadata()
    facts = inspect_lora(path)
    assert (facts.naming, facts.rank, facts.alpha, facts.family) == ("kohya", 4, 2.0, "Stable Diffusion 1")
    assert (facts.base, facts.name, facts.title) == ("sd_v1_v", "fox", "A fox ü")
    assert said["ss_v_parameterization"] == "True"
    assert said["modelspec.prediction_type"] == "v"
    assert said["ss_sd_model_name"] == "tiny-sd"
    assert said["ss_seed"] == "7"
    assert json.loads(said["ss_network_args"]) == {"conv_dim": "4", "conv_alpha": "2.0"}
    (length,) = struct.unpack("<Q", data[:8])
    assert length % 8 == 0
    assert said["sshs_model_hash"] == hashlib.sha256(data[8 + length :]).hexdigest()


def test_it_has_the_same_bytes_each_time(subjects: Subjects) -> None:
    """Of many entries safetensors itself would write the order by chance."""
    trainer = train(subjects("sd"), options(), steps=1)
    said = {f"key {number}": "x" for number in range(20)}
    assert len({trainer.lora(said) for _ in range(3)}) == 1
    assert trainer.lora(dict(reversed(said.items()))) == trainer.lora(said)
    assert train(subjects("sd"), options(), steps=1).lora(said) == trainer.lora(said)
