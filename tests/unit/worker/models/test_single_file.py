"""One file with all weights under the original keys, loaded offline."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from darkroom.tasks.catalogue import Family, FileSource, FolderSource, ModelEntry
from darkroom.worker.errors import (
    ModelCorrupt,
    ModelDigestMismatch,
    ModelIncompatible,
    ModelMissing,
    ModelUnsafe,
)
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.unit.worker.models.conftest import Copied
from tests.unit.worker.models.original import original_checkpoint

Single = Callable[[Family], tuple[ModelEntry, LoadedModel]]


@pytest.fixture
def single(copied: Copied, placement: Placement, settings: WorkerSettings, tmp_path: Path) -> Single:
    """A tiny model as one file, with its folder of configs without weights, and the model as it was."""

    def make(name: Family) -> tuple[ModelEntry, LoadedModel]:
        entry = copied(name)
        whole = load_model(entry, placement, WorkerSettings(models_dir=tmp_path / "for-the-folder"))
        path, configs = tmp_path / "single.safetensors", tmp_path / "model"
        save_file(original_checkpoint(name, whole.components), path)
        for weights in configs.rglob("*.safetensors"):
            weights.unlink()
        return entry.model_copy(update={"source": FileSource(path=path, config=configs)}), whole

    return make


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", get_args(Family))
def test_every_weight_arrives_where_it_was(
    single: Single, placement: Placement, settings: WorkerSettings, name: Family
) -> None:
    entry, whole = single(name)
    loaded = load_model(entry, placement, settings)
    for part in loaded.family.modules:
        found, expected = (model.components[part].state_dict() for model in (loaded, whole))
        assert found.keys() == expected.keys()
        assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    assert type(loaded.components["scheduler"]) is type(whole.components["scheduler"])


def test_file_and_configs_are_pinned(
    single: Single, placement: Placement, settings: WorkerSettings, tmp_path: Path
) -> None:
    entry, _ = single("sd")
    first = load_model(entry, placement, settings)
    assert {"single.safetensors", "config/model_index.json", "config/tokenizer/vocab.json"} <= first.digests.keys()
    (tmp_path / "model" / "unet" / "config.json").write_text("{}")
    with pytest.raises(ModelDigestMismatch, match=r"config/unet/config.json"):
        load_model(entry, placement, settings)


def test_half_precision_applies(single: Single, settings: WorkerSettings) -> None:
    entry, _ = single("sdxl")
    components = load_model(entry, Placement(torch.device("cpu"), torch.float16, "full", 1), settings).components
    assert [components[part].dtype for part in ("text_encoder", "text_encoder_2", "unet", "vae")] == [
        torch.float16,
        torch.float16,
        torch.float16,
        torch.float32,
    ]


@pytest.mark.parametrize(
    ("lost", "part"),
    [
        ("model.diffusion_model.", "unet"),
        ("first_stage_model.", "vae"),
        ("conditioner.embedders.1.", "text_encoder_2"),
    ],
)
def test_a_file_without_a_part_is_refused(
    single: Single, placement: Placement, settings: WorkerSettings, tmp_path: Path, lost: str, part: str
) -> None:
    entry, _ = single("sdxl")
    path = tmp_path / "single.safetensors"
    save_file({key: value for key, value in load_file(path).items() if not key.startswith(lost)}, path)
    with pytest.raises(ModelIncompatible, match=rf"single\.safetensors: it has no weights for the {part}"):
        load_model(entry, placement, settings)


@pytest.mark.parametrize(
    ("lost", "part"),
    [
        ("model.diffusion_model.middle_block.0.in_layers.2.weight", "unet"),
        ("first_stage_model.decoder.conv_out.bias", "vae"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.weight", "text_encoder"),
    ],
)
def test_a_file_that_lacks_one_weight_is_refused(
    single: Single, placement: Placement, settings: WorkerSettings, tmp_path: Path, lost: str, part: str
) -> None:
    entry, _ = single("sd")
    path = tmp_path / "single.safetensors"
    tensors = load_file(path)
    del tensors[lost]
    save_file(tensors, path)
    with pytest.raises(ModelIncompatible, match=f"lacks some of the weights of the {part}"):
        load_model(entry, placement, settings)


def test_without_configs_it_says_what_is_needed(
    single: Single, placement: Placement, settings: WorkerSettings, tmp_path: Path
) -> None:
    entry, _ = single("sd")
    assert isinstance(entry.source, FileSource)
    bare = entry.model_copy(update={"source": entry.source.model_copy(update={"config": tmp_path / "nowhere"})})
    with pytest.raises(ModelMissing, match="nowhere holds no configs") as caught:
        load_model(bare, placement, settings)
    assert "model_index.json" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "error"),
    [("m.ckpt", ModelUnsafe), ("m.pt", ModelUnsafe), ("m.bin", ModelUnsafe), ("m.gguf", ModelIncompatible)],
)
def test_other_formats_are_refused(
    tiny_models: TinyModels, placement: Placement, settings: WorkerSettings, tmp_path: Path, name: str, error: type
) -> None:
    entry = tiny_models("sd")
    assert isinstance(entry.source, FolderSource)
    (tmp_path / name).write_bytes(b"")
    source = FileSource(path=tmp_path / name, config=entry.source.path)
    with pytest.raises(error, match=name):
        load_model(entry.model_copy(update={"source": source}), placement, settings)


def test_a_truncated_file_is_corrupt(
    single: Single, placement: Placement, settings: WorkerSettings, tmp_path: Path
) -> None:
    entry, _ = single("sd")
    path = tmp_path / "single.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ModelCorrupt, match="7 bytes"):
        load_model(entry, placement, settings)


def test_a_config_of_other_shapes_is_named(
    single: Single, placement: Placement, settings: WorkerSettings, tmp_path: Path, edit: Callable[..., None]
) -> None:
    entry, _ = single("sd")
    edit(tmp_path / "model" / "unet" / "config.json", cross_attention_dim=40)
    with pytest.raises(ModelIncompatible, match=r"config\.json: describes other shapes than its weights have: .*40\]"):
        load_model(entry, placement, settings)


def test_a_lost_file_is_named(single: Single, placement: Placement, settings: WorkerSettings, tmp_path: Path) -> None:
    entry, _ = single("sd")
    (tmp_path / "single.safetensors").unlink()
    with pytest.raises(ModelMissing, match=r"single\.safetensors"):
        load_model(entry, placement, settings)
