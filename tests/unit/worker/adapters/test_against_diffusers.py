"""Files of all kinds: what ours makes of them, what diffusers does, and what was written."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file

from darkroom.tasks.catalogue import Family
from darkroom.worker.adapters.weights import read_lora
from darkroom.worker.errors import AdapterIncompatible
from tests.unit.worker.adapters.writers import (
    adapter_state,
    add_random,
    assert_same,
    changed_by,
    copied,
    deltas,
    fill,
    fused_by_diffusers,
    products,
    train,
    write_kohya,
)
from tests.unit.worker.conftest import Models
from tests.unit.worker.models.original import unet_key


@pytest.mark.parametrize(
    ("family", "original", "alpha"), [("sd", False, None), ("sdxl", True, None), ("sdxl", True, 2), ("sdxl", False, 2)]
)
def test_kohya(tmp_path: Path, models: Models, family: Family, original: bool, alpha: float | None) -> None:
    model = models(family)
    lost = ("text_projection",) if original else ("text_projection", "add_embedding")  # by diffusers
    ranks = (4, 4, 4, 8, 2) if alpha is None else (4,)
    trained = train(model, ranks, alphas=(alpha,), only=lambda _, path: not path.startswith(lost))
    path = write_kohya(tmp_path / "x.safetensors", model, trained, original=original)
    assert_same(products(read_lora(path, model.components)), deltas(trained))
    assert_same(fused_by_diffusers(path, model), deltas(trained))


@pytest.mark.parametrize(("family", "original"), [("sd", True), ("sdxl", True), ("sdxl", False)])
def test_each_layer_has_its_own_rank_and_alpha(tmp_path: Path, models: Models, family: Family, original: bool) -> None:
    """Of which diffusers loses some; so it does with a few layers by the original names of Stable Diffusion."""
    model = models(family)
    trained = train(model, ranks=(4, 4, 4, 8, 2), alphas=(4, 0.5, None, 1))
    path = write_kohya(tmp_path / "x.safetensors", model, trained, original=original)
    found = read_lora(path, model.components)
    assert found.rank == 8
    assert_same(products(found), deltas(trained))


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
ALL = (*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2", "time_emb_proj", "conv")
MIDDLE = "mid_block.attentions.0.transformer_blocks.1.attn1.to_q"
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@pytest.mark.parametrize(
    ("naming", "unet", "text"),
    [
        ("diffusers", {"r": 4, "lora_alpha": 1}, {"r": 2, "lora_alpha": 16}),
        ("peft", {"r": 4, "lora_alpha": 3, "use_rslora": True}, {"r": 4, "lora_alpha": 8}),
        (
            "peft",
            {
                "r": 4,
                "lora_alpha": 3,
                "rank_pattern": {"attn1.to_k": 2, "to_k": 6, rf"^{MIDDLE}": 8},
                "alpha_pattern": {"attn2.to_q": 7, MIDDLE.replace(".", r"\."): 1},
            },
            {"r": 4, "lora_alpha": 2, "alpha_pattern": {"layers.1.self_attn.q_proj": 5}, "rank_pattern": {"fc1": 2}},
        ),
    ],
    ids=["alphas", "rslora", "patterns"],
)
def test_saved_by_diffusers(
    tmp_path: Path, models: Models, naming: str, unet: dict[str, Any], text: dict[str, Any]
) -> None:
    model, components = models("sdxl"), copied(models("sdxl"))
    configs = {
        "unet": LoraConfig(target_modules=list(ALL if naming == "peft" else ATTENTION), **unet),
        "text_encoder": LoraConfig(target_modules=list(TEXT), **text),
        "text_encoder_2": LoraConfig(target_modules=[*TEXT, "text_projection"], **text),
    }
    states = {}
    for seed, (part, config) in enumerate(configs.items()):
        add_random(components[part], config, seed)
        state = adapter_state(components[part])
        states[f"{part}_lora_layers"] = convert_state_dict_to_diffusers(state) if naming == "diffusers" else state
    modules = {part: components[part] for part in configs}
    pipe = model.family.pipeline("txt2img", components)
    pipe.save_lora_weights(tmp_path, **states, **_collate_lora_metadata(modules))
    path = tmp_path / "pytorch_lora_weights.safetensors"
    found = read_lora(path, model.components)
    assert_same(products(found), fused_by_diffusers(path, model))
    assert_same(products(found), changed_by(lambda parts: put_in(components, parts), model))


def put_in(adapted: dict[str, Any], components: dict[str, Any]) -> None:
    """The adapted modules, merged, in the place of the others."""
    for part in ("unet", "text_encoder", "text_encoder_2"):
        for layer in adapted[part].modules():
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
        components[part] = adapted[part]


def test_saved_before_diffusers_used_peft(tmp_path: Path, models: Models) -> None:
    """Matrices hung on the processors of the attention, and names of the text encoder were those of the UNet."""
    model = models("sd")
    trained = train(model, only=lambda _, path: path.endswith((*ATTENTION, *TEXT[:4])))
    tensors = {}
    for one in trained:
        stem, _, last = one.path.removesuffix(".0").rpartition(".")
        old = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}.get(last, last)
        name = f"unet.{stem}.processor.{old}" if one.part == "unet" else f"text_encoder.text_model.{stem}.{old}"
        tensors |= {f"{name}_lora.down.weight": one.down, f"{name}_lora.up.weight": one.up}
    save_file(tensors, tmp_path / "x.safetensors")
    assert_same(products(read_lora(tmp_path / "x.safetensors", model.components)), deltas(trained))
    assert_same(fused_by_diffusers(tmp_path / "x.safetensors", model), deltas(trained))


def test_an_adapter_of_the_unet_alone(tmp_path: Path, models: Models) -> None:
    """`save_lora_adapter` names no part, in the names nor in the metadata."""
    model, components = models("sdxl"), copied(models("sdxl"))
    add_random(components["unet"], LoraConfig(r=4, lora_alpha=2, target_modules=list(ALL)))
    components["unet"].save_lora_adapter(tmp_path)
    found = read_lora(tmp_path / "pytorch_lora_weights.safetensors", model.components)

    def fuse(parts: dict[str, Any]) -> None:
        parts["unet"].load_lora_adapter(tmp_path, prefix=None, use_safetensors=True)
        parts["unet"].fuse_lora()

    assert_same(products(found), changed_by(fuse, model))


@pytest.mark.parametrize("alpha", [4, 1])
def test_saved_by_peft(tmp_path: Path, models: Models, alpha: int) -> None:
    """Peft keeps alpha in a second file, whose change no digest of the first would show."""
    model = models("sdxl")
    config = LoraConfig(r=4, lora_alpha=alpha, target_modules=list(ALL))
    adapted = get_peft_model(copied(model)["unet"], config)
    fill(adapted)
    adapted.save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    if alpha == 4:
        merged = {"unet": adapted.merge_and_unload()}
        assert_same(products(read_lora(path, model.components)), changed_by(lambda parts: parts.update(merged), model))
    else:
        with pytest.raises(AdapterIncompatible, match="its alpha stands in adapter_config"):
            read_lora(path, model.components)


@pytest.mark.parametrize(
    ("names", "alpha"),
    [
        ("unet.{path}.lora_A.default.weight unet.{path}.lora_B.default.weight unet.{path}.alpha", 3),
        ("unet.{path}.lora.down.weight unet.{path}.lora.up.weight unet.{path}.lora.alpha", 3),
        ("base_model.model.{path}.lora_A.weight base_model.model.{path}.lora_B.weight", None),
        ("{path}.lora.down.weight {path}.lora.up.weight {path}.alpha", 3),
        ("diffusion_model.{original}.lora_down.weight diffusion_model.{original}.lora_up.weight", None),
        ("lycoris_{path_}.lora_down.weight lycoris_{path_}.lora_up.weight lycoris_{path_}.alpha", 3),
        ("lora_unet_{path_}.lora_A.weight lora_unet_{path_}.lora_B.weight lora_unet_{path_}.alpha", 3),
    ],
)
def test_other_ways_to_name_the_same(tmp_path: Path, models: Models, names: str, alpha: float | None) -> None:
    model = models("sdxl")
    trained = train(model, alphas=(alpha,), only=lambda part, _: part == "unet")
    tensors: dict[str, torch.Tensor] = {}
    for one in trained:
        original = unet_key(f"{one.path}.weight", model.components["unet"]).removesuffix(".weight")
        told = names.format(path=one.path, path_=one.path.replace(".", "_"), original=original).split()
        held = [one.down, one.up, torch.tensor(int(alpha or 0))]
        tensors |= dict(zip(told, held, strict=False))
    save_file(tensors, tmp_path / "x.safetensors")
    assert_same(products(read_lora(tmp_path / "x.safetensors", model.components)), deltas(trained))
