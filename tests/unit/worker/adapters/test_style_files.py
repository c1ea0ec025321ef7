"""Every fault of a style's files is found before the first job, and names the file or the layer."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from darkroom.worker.adapters.projection import Form
from darkroom.worker.adapters.style import StyleAdapter, load_style
from darkroom.worker.adapters.style_file import inspect_style, read_style
from darkroom.worker.adapters.tiny_style import make_tiny_style
from darkroom.worker.errors import AdapterCorrupt, AdapterError, AdapterIncompatible, AdapterMissing, AdapterUnsafe
from darkroom.worker.models.device import Placement
from tests.unit.worker.conftest import Models

Spoil = Callable[[Path], object]
KEY = "ip_adapter.1.to_k_ip.weight"


@pytest.fixture(scope="module")
def unet(models: Models) -> Any:
    """The session's own, of which nothing is changed here: its files are refused."""
    return models("sdxl").components["unet"]


def load(path: Path, encoder: Path, unet: Any) -> StyleAdapter:
    return load_style(path, encoder, "sdxl", unet, Placement(torch.device("cpu"), torch.float32, "full", 1))


def tensors(change: Callable[[dict[str, Tensor]], object], **metadata: str) -> Spoil:
    def rewrite(path: Path) -> None:
        held = load_file(path)
        change(held)
        save_file(held, path, metadata={"format": "pt", **metadata})

    return rewrite


def without(*names: str) -> Spoil:
    return tensors(lambda held: [held.pop(name) for name in names])


def sets(name: str, value: Tensor) -> Spoil:
    return tensors(lambda held: held.update({name: value}))


def only(*prefixes: str) -> Spoil:
    return tensors(lambda held: [held.pop(name) for name in list(held) if not name.startswith(prefixes)])


def renames(old: str, new: str) -> Spoil:
    return tensors(lambda held: [held.update({name.replace(old, new): held.pop(name)}) for name in list(held)])


def told(blocks: str) -> Spoil:
    return tensors(lambda held: held, darkroom=blocks)


def with_nan(held: dict[str, Tensor]) -> None:
    held[KEY][0, 0] = torch.nan


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def hostile(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (Path.unlink, AdapterMissing, "is not there"),
        (truncated, AdapterCorrupt, "truncated"),
        (hostile, AdapterCorrupt, "not a safetensors file"),
        (pointer, AdapterCorrupt, "git-lfs pointer"),
        (tensors(with_nan), AdapterCorrupt, "ip_adapter.1.to_k_ip.weight holds numbers that are none"),
        (only("image_proj."), AdapterIncompatible, "no IP-Adapter"),
        (only("ip_adapter."), AdapterIncompatible, "no IP-Adapter"),
        (
            without(KEY),
            AdapterIncompatible,
            r"1.to_k_ip.weight is not there; the model's down_blocks.1.* needs \[32, 80\]",
        ),
        (
            sets("ip_adapter.99.to_k_ip.weight", torch.ones(2, 80)),
            AdapterIncompatible,
            "belongs to none of the model's",
        ),
        (sets(KEY, torch.ones(32, 81)), AdapterIncompatible, r"is \[32, 81\]; the model's down_blocks.1"),
        (sets(KEY, torch.ones(32)), AdapterIncompatible, r"is \[32\]"),
        (sets(KEY, torch.ones(32, 80, dtype=torch.int8)), AdapterIncompatible, "holds I8"),
        (without("image_proj.norm.bias"), AdapterIncompatible, "lacks 1 tensors, such as norm.bias"),
        (without("image_proj.proj.weight"), AdapterIncompatible, "no known form"),
        (sets("image_proj.more", torch.ones(1)), AdapterIncompatible, "belongs to no known form: more"),
        (sets("image_proj.proj.weight", torch.ones(64, 24)), AdapterIncompatible, r"\[64, 24\] .* needs \[320, 24\]"),
        (sets("image_proj.proj.weight", torch.ones(320)), AdapterIncompatible, "no matrix"),
        (sets("image_proj.proj.bias", torch.ones(1)), AdapterIncompatible, r"is \[1\] where"),
        (renames("image_proj.proj.", "image_proj.proj.0."), AdapterIncompatible, "for faces"),
        (sets("ip_adapter.0.to_q_lora.down.weight", torch.ones(4, 4)), AdapterIncompatible, r"for faces \(FaceID\)"),
        (sets("image_proj.proj.weight", torch.ones(320, 30)), AdapterIncompatible, "reads 30 numbers .* gives 24"),
        (told("[]"), AdapterIncompatible, "metadata `darkroom`"),
        (told(json.dumps({"style": {"up_blocks": "much"}, "layout": {}})), AdapterIncompatible, "metadata `darkroom`"),
        (told('{"style": {"up_blocks": NaN}, "layout": {}}'), AdapterIncompatible, "metadata `darkroom`"),
        (
            told('{"style": {"side_blocks": 1}, "layout": {}}'),
            AdapterIncompatible,
            "none of its layers carries a style",
        ),
    ],
)
def test_a_spoiled_adapter_is_refused(
    tmp_path: Path, unet: Any, spoil: Spoil, error: type[AdapterError], said: str
) -> None:
    path, encoder = make_tiny_style(unet, tmp_path)
    spoil(path)
    with pytest.raises(error, match=said) as raised:
        load(path, encoder, unet)
    assert "side_blocks" in str(raised.value) or path.name in str(raised.value)
    assert raised.value.hint
    assert all(processor.__class__.__name__ == "AttnProcessor2_0" for processor in unet.attn_processors.values())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without("image_proj.layers.2.0.to_kv.weight"), "lacks 2 tensors, such as layers.2.attn.to_k.weight"),
        (without("image_proj.layers.0.0.to_q.weight"), "is not there, no matrix"),
        (sets("image_proj.latents", torch.ones(6, 16)), "no resampler"),
        (sets("image_proj.proj_out.weight", torch.ones(32, 16)), r"proj_out.weight is \[32, 16\]"),
        (sets("image_proj.layers.0.0.to_q.weight", torch.ones(65, 16)), "no resampler"),
        (sets("image_proj.layers.3.1.3.weight", torch.ones(16, 65)), r"layers.3.ff.1.net.2.weight is \[16, 65\]"),
        (renames("image_proj.", "image_proj.perceiver_resampler."), "for faces"),
    ],
)
def test_a_spoiled_resampler_is_refused(tmp_path: Path, unet: Any, spoil: Spoil, said: str) -> None:
    path, _ = make_tiny_style(unet, tmp_path, "plus")
    if "for faces" in said:
        tensors(lambda held: held.update({"image_proj.proj_in.weight": torch.ones(1)}))(path)
    spoil(path)
    with pytest.raises(AdapterIncompatible, match=said):
        read_style(path, unet)


@pytest.mark.parametrize("name", ["ip-adapter.bin", "ip-adapter.pt"])
def test_a_pickle_is_refused_unread(tmp_path: Path, name: str) -> None:
    with pytest.raises(AdapterUnsafe, match="can run code"):
        inspect_style(tmp_path / name)


def test_a_fifo_does_not_hold_the_reader(tmp_path: Path, unet: Any) -> None:
    os.mkfifo(tmp_path / "ip-adapter.safetensors")
    with pytest.raises(AdapterMissing, match=r"ip-adapter\.safetensors is no regular file"):
        read_style(tmp_path / "ip-adapter.safetensors", unet)


@pytest.mark.parametrize(("width", "family"), [(768, "Stable Diffusion 1"), (2048, "SDXL")])
def test_another_familys_adapter_is_known_by_its_widths(tmp_path: Path, unet: Any, width: int, family: str) -> None:
    path, _ = make_tiny_style(unet, tmp_path)
    names = [name for name in load_file(path) if name.startswith("ip_adapter.")]
    tensors(lambda held: held.update({name: torch.zeros(32, width) for name in names}))(path)
    with pytest.raises(AdapterIncompatible, match=rf"\(it is made for {family}\)"):
        read_style(path, unet)


@pytest.mark.parametrize("form", ["plain", "plus"])
def test_the_encoder_must_be_the_one_that_fits(tmp_path: Path, unet: Any, form: Form) -> None:
    path, _ = make_tiny_style(unet, tmp_path / "one", form) if (tmp_path / "one").mkdir() is None else (tmp_path,) * 2
    with pytest.raises(AdapterMissing, match="works with the image encoder that it was trained with"):
        load(path, tmp_path / "nowhere", unet)


def says(**keys: Any) -> Spoil:
    """Changes keys of a JSON file; ... takes one out."""

    def change(path: Path) -> None:
        table = {**(json.loads(path.read_text()) if path.exists() else {}), **keys}
        path.write_text(json.dumps({key: value for key, value in table.items() if value is not ...}))

    return change


CONFIG, WEIGHTS, SHOWN = "config.json", "model.safetensors", "preprocessor_config.json"


@pytest.mark.parametrize(
    ("file", "spoil", "error", "said"),
    [
        (CONFIG, Path.unlink, AdapterMissing, "config.json is not there"),
        (WEIGHTS, Path.unlink, AdapterMissing, "model.safetensors is not there"),
        (
            WEIGHTS,
            lambda path: path.rename(path.with_name("pytorch_model.bin")),
            AdapterUnsafe,
            "pytorch_model.bin can run",
        ),
        (WEIGHTS, truncated, AdapterCorrupt, "truncated"),
        (WEIGHTS, without("visual_projection.weight"), AdapterIncompatible, "such as visual_projection.weight"),
        (CONFIG, says(model_type="siglip_vision_model"), AdapterIncompatible, "a siglip_vision_model, where CLIP's"),
        (CONFIG, says(auto_map={}), AdapterUnsafe, "code of its own"),
        (CONFIG, says(num_hidden_layers=10**9), AdapterIncompatible, "num_hidden_layers asks for more"),
        (CONFIG, says(image_size=2**16), AdapterIncompatible, "weights where"),
        (CONFIG, says(image_size=64), AdapterIncompatible, "other shapes"),
        (CONFIG, says(patch_size=0), AdapterIncompatible, "config.json"),
        (CONFIG, says(projection_dim=12), AdapterIncompatible, "other shapes"),
        (SHOWN, says(do_center_crop=False), AdapterIncompatible, "do_center_crop is not as CLIP's"),
        (SHOWN, says(resample=2), AdapterIncompatible, "resample is not as"),
        (SHOWN, says(size={"shortest_edge": 224}), AdapterIncompatible, "size is .*224.* takes 32 pixels"),
        (SHOWN, says(crop_size=[32]), AdapterIncompatible, "crop_size"),
        (SHOWN, says(image_mean=[0.5]), AdapterIncompatible, "image_mean"),
        (SHOWN, says(image_mean=["a", "b", "c"]), AdapterIncompatible, "image_mean"),
        (SHOWN, says(image_std=[1, 0, 1]), AdapterIncompatible, "image_std"),
        (SHOWN, lambda path: path.write_text("{"), AdapterCorrupt, "not JSON"),
    ],
)
def test_a_spoiled_encoder_is_refused(
    tmp_path: Path, unet: Any, file: str, spoil: Spoil, error: type[AdapterError], said: str
) -> None:
    path, encoder = make_tiny_style(unet, tmp_path)
    spoil(encoder / file)
    with pytest.raises(error, match=said):
        load(path, encoder, unet)


def test_clips_own_preprocessing_may_be_said(tmp_path: Path, unet: Any, models: Models) -> None:
    from copy import deepcopy

    path, encoder = make_tiny_style(unet, tmp_path)
    says(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=[0.5, 0.5, 0.5])(encoder / SHOWN)
    assert load(path, encoder, deepcopy(models("sdxl").components["unet"])).tokens == 4
