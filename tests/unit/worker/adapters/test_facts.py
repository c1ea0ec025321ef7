"""What a file says of itself, without a model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from darkroom.tasks.catalogue import Family
from darkroom.worker.adapters.facts import inspect_lora
from darkroom.worker.errors import AdapterIncompatible
from tests.unit.worker.adapters.writers import train, write_kohya
from tests.unit.worker.conftest import Models


def test_facts_of_a_file_of_sd_scripts(tmp_path: Path, models: Models) -> None:
    trained = train(models("sdxl"), ranks=(4, 8))
    tags = {"10_fox": {"red fox": 12, " snow ": 3}, "2_den": {"red fox": 1, "none": None}, "odd": 7}
    path = write_kohya(
        tmp_path / "x.safetensors",
        models("sdxl"),
        trained,
        original=True,
        ss_network_alpha="2",
        ss_base_model_version="sdxl_base_v1-0",
        ss_output_name="fox",
        ss_tag_frequency=json.dumps(tags),
        **{"modelspec.title": "A fox", "modelspec.trigger_phrase": "f0x"},
    )
    facts = inspect_lora(path)
    assert facts.bytes == path.stat().st_size
    assert (facts.naming, facts.parts) == ("kohya", ("unet", "text_encoder", "text_encoder_2"))
    assert facts.ranks == {4: (len(trained) + 1) // 2, 8: len(trained) // 2}
    assert facts.rank == 8
    assert sum(facts.layers.values()) == len(trained)
    assert facts.layers["attention"] == sum("attn" in one.path for one in trained if one.part == "unet")
    assert facts.layers["text"] == sum(one.part != "unet" for one in trained)
    assert facts.layers["convolution"] == sum(one.down.ndim == 4 for one in trained)
    assert list(facts.dtypes) == ["F32"]
    assert (facts.alpha, facts.base, facts.family) == (2, "sdxl_base_v1-0", "SDXL")
    assert (facts.name, facts.title, facts.trigger) == ("fox", "A fox", "f0x")
    assert facts.tags == {"red fox": 13, "snow": 3}
    assert facts.faults == ()


def test_facts_of_a_file_of_diffusers(tmp_path: Path) -> None:
    stem = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {f"{stem}.lora_A.weight": torch.ones(4, 2048).half(), f"{stem}.lora_B.weight": torch.ones(640, 4).half()}
    config = json.dumps({"unet.r": 4, "unet.lora_alpha": 8})
    save_file(tensors, tmp_path / "x.safetensors", {"lora_adapter_metadata": config})
    facts = inspect_lora(tmp_path / "x.safetensors")
    assert (facts.naming, facts.parts, facts.alpha) == ("peft", ("unet",), 8)
    assert (facts.family, facts.base) == ("SDXL", None)
    assert facts.dtypes == {"F16": 4 * (2048 + 640)}


def test_layers_of_no_model_here_are_told(tmp_path: Path) -> None:
    tensors = {f"mixer.{side}.lora_{which}.weight": torch.ones(4, 4) for side in ("left", "right") for which in "AB"}
    save_file(tensors, tmp_path / "x.safetensors")
    facts = inspect_lora(tmp_path / "x.safetensors")
    said = "family unknown: no model here has layers of these names ('mixer.left', 'mixer.right')"
    assert (facts.family, facts.faults) == (None, (said,))


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("original", [True, False])
def test_every_layer_of_models_here_is_known_by_its_name(
    tmp_path: Path, models: Models, family: Family, original: bool
) -> None:
    """A file of any of them alone, without a word on its model."""
    for number, one in enumerate(train(models(family))):
        path = write_kohya(tmp_path / f"{number}.safetensors", models(family), [one], original=original)
        assert inspect_lora(path).faults == ()


@pytest.mark.parametrize(
    ("metadata", "said"),
    [({}, "DoRA is not run"), ({"lora_adapter_metadata": "{"}, "in its metadata `lora_adapter_metadata`")],
)
def test_why_it_cannot_be_used_is_among_the_facts(tmp_path: Path, metadata: dict[str, str], said: str) -> None:
    stem = "lora_unet_conv_in"
    tensors = {f"{stem}.lora_down.weight": torch.ones(4, 4, 3, 3), f"{stem}.lora_up.weight": torch.ones(16, 4, 1, 1)}
    save_file({**tensors, f"{stem}.dora_scale": torch.ones(16)}, tmp_path / "x.safetensors", metadata)
    assert any(said in fault for fault in inspect_lora(tmp_path / "x.safetensors").faults)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', "[" * 100_000, '{"a": {"b": "c"}}', "nonsense"])
def test_metadata_that_mean_nothing_are_left_out(tmp_path: Path, text: str) -> None:
    stem = "lora_unet_conv_in"
    tensors = {f"{stem}.lora_down.weight": torch.ones(4, 4, 3, 3), f"{stem}.lora_up.weight": torch.ones(16, 4, 1, 1)}
    save_file(tensors, tmp_path / "x.safetensors", {"ss_tag_frequency": text, "ss_network_alpha": text})
    facts = inspect_lora(tmp_path / "x.safetensors")
    assert (facts.tags, facts.alpha) == ({}, None)


def test_what_is_no_lora_has_no_facts(tmp_path: Path) -> None:
    save_file({"clip_g": torch.ones(8, 1280)}, tmp_path / "x.safetensors")
    with pytest.raises(AdapterIncompatible, match="a textual inversion"):
        inspect_lora(tmp_path / "x.safetensors")
