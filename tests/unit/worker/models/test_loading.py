"""Loading: what comes out of a whole model, and what is said of a broken one."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file

from darkroom.tasks.catalogue import Family, FolderSource
from darkroom.worker.errors import (
    ModelCorrupt,
    ModelDigestMismatch,
    ModelError,
    ModelIncompatible,
    ModelMissing,
    ModelUnsafe,
    OutOfMemory,
)
from darkroom.worker.images.schedulers import make_scheduler
from darkroom.worker.models import loading
from darkroom.worker.models.device import Placement
from darkroom.worker.models.door import one_door
from darkroom.worker.models.families import family
from darkroom.worker.models.layout import folder_layout
from darkroom.worker.models.loading import load_model, with_changes
from darkroom.worker.models.lockfile import read_lock
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.unit.worker.models.conftest import Copied

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["sdxl", "playground", "sd"])
def test_a_family_loads_ready_for_use(
    tiny_models: TinyModels, settings: WorkerSettings, placement: Placement, name: Family
) -> None:
    model = load_model(tiny_models(name), placement, settings)
    assert set(model.components) == {*model.family.components, "scheduler"}
    for part in model.family.modules:
        module = model.components[part]
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
        assert module.dtype == torch.float32
    assert model.revision == "local"
    assert model.options == ({} if name == "sd" else {"force_zeros_for_empty_prompt": True})


def test_every_file_that_was_used_has_its_digest(
    copied: Copied, settings: WorkerSettings, placement: Placement
) -> None:
    entry = copied("sdxl")
    assert isinstance(entry.source, FolderSource)
    model = load_model(entry, placement, settings)
    on_disk = {str(path.relative_to(entry.source.path)) for path in entry.source.path.rglob("*") if path.is_file()}
    assert set(model.digests) == on_disk
    locked = read_lock(settings.models_dir).models[entry.name]
    assert {name: file.sha256 for name, file in locked.files.items()} == model.digests


def test_the_second_time_verifies_against_the_first(
    copied: Copied, settings: WorkerSettings, placement: Placement
) -> None:
    entry = copied("sd")
    told: list[int] = []
    first = load_model(entry, placement, settings)
    again = load_model(entry, placement, settings, lambda done, total: told.append(total - done))
    assert again.digests == first.digests
    assert told[-1] == 0


def test_a_changed_weight_is_refused_before_it_is_read(
    copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = copied("sd")
    load_model(entry, placement, settings)
    tensors = load_file(tmp_path / "model" / UNET)
    tensors["conv_in.bias"] += 1
    save_file(tensors, tmp_path / "model" / UNET, metadata={"format": "pt"})
    monkeypatch.setattr(loading, "_modules", None)  # reading any weight would fail
    with pytest.raises(ModelDigestMismatch, match=UNET) as caught:
        load_model(entry, placement, settings)
    assert "lock file" in caught.value.hint


@pytest.mark.parametrize("name", ["model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt"])
def test_configs_and_tokenizers_count_like_weights(
    copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path, name: str
) -> None:
    entry = copied("sd")
    load_model(entry, placement, settings)
    path = tmp_path / "model" / name
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ModelDigestMismatch, match=name):
        load_model(entry, placement, settings)


def test_a_file_that_came_later_is_refused(
    copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path
) -> None:
    entry = copied("sd")
    load_model(entry, placement, settings)
    (tmp_path / "model" / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelDigestMismatch, match=r"tokenizer/tokenizer.json would be loaded"):
        load_model(entry, placement, settings)


def test_a_lost_file_is_named(copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path) -> None:
    entry = copied("sd")
    load_model(entry, placement, settings)
    (tmp_path / "model" / UNET).unlink()
    with pytest.raises(ModelMissing, match=UNET):
        load_model(entry, placement, settings)


@pytest.mark.parametrize("pinned", [True, False])
def test_a_truncated_weight_is_corrupt(
    copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path, pinned: bool
) -> None:
    entry = copied("sd")
    if pinned:
        load_model(entry, placement, settings)
    path = tmp_path / "model" / UNET
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelCorrupt, match=r"truncated, 100 bytes"):
        load_model(entry, placement, settings)


@pytest.mark.parametrize(
    ("file", "key"),
    [(UNET, "conv_out.weight"), ("text_encoder_2/model.safetensors", "text_projection.weight")],
)
def test_weights_that_are_not_there_are_not_made_up(
    copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path, file: str, key: str
) -> None:
    """Both libraries would warn and go on with random numbers."""
    entry = copied("sdxl")
    tensors = load_file(tmp_path / "model" / file)
    del tensors[key]
    save_file(tensors, tmp_path / "model" / file, metadata={"format": "pt"})
    with pytest.raises(ModelIncompatible, match="lacks 1 of its weights"):
        load_model(entry, placement, settings)


def test_text_encoders_load_in_the_form_that_the_hub_has(
    copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path, edit: Callable[..., None]
) -> None:
    """Released before transformers 5: prefixed names, positions among the weights, an end of text of 2."""
    entry = copied("sd")
    folder = tmp_path / "model" / "text_encoder"
    tensors = load_file(folder / "model.safetensors")
    released = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in tensors.items()}
    released["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(released, folder / "model.safetensors")
    edit(folder / "config.json", eos_token_id=2, bos_token_id=0, pad_token_id=1, dtype=None, torch_dtype="float16")
    encoder = load_model(entry, placement, settings).components["text_encoder"]
    loaded = encoder.state_dict()
    assert all(torch.equal(loaded[key.removeprefix("text_model.")], value) for key, value in tensors.items())
    assert encoder.dtype == torch.float32


def test_weights_of_another_shape_do_not_fit(
    copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path
) -> None:
    entry = copied("sd")
    tensors = load_file(tmp_path / "model" / UNET)
    tensors["conv_in.weight"] = torch.zeros(16, 9, 3, 3)  # an inpainting model's
    save_file(tensors, tmp_path / "model" / UNET)
    with pytest.raises(ModelIncompatible, match=r"conv_in\.weight"):
        load_model(entry, placement, settings)


def test_pickles_beside_safetensors_are_never_opened(
    copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path
) -> None:
    entry = copied("sd")
    (tmp_path / "model" / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    model = load_model(entry, placement, settings)
    assert not any(name.endswith(".bin") for name in model.digests)


def test_variants_fall_back_part_by_part(copied: Copied, tmp_path: Path) -> None:
    copied("sd")
    unet = tmp_path / "model" / UNET
    shutil.copy(unet, unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    layout = folder_layout(family("sd"), tmp_path / "model", "fp16")
    assert layout.variants == {"text_encoder": None, "unet": "fp16", "vae": None}
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in layout.weights
    assert UNET not in layout.weights
    assert UNET in folder_layout(family("sd"), tmp_path / "model").weights


def test_a_folder_with_the_files_of_one_variant_alone_loads(
    copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path
) -> None:
    entry = copied("sd")
    for path in (tmp_path / "model").rglob("*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    model = load_model(entry, placement, settings)
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in model.digests


def test_shards_are_found_verified_and_loaded(
    copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path
) -> None:
    entry = copied("sd")
    whole = load_model(entry, placement, settings).components["unet"]
    whole.save_pretrained(tmp_path / "model" / "unet", max_shard_size="1MB")
    (tmp_path / "model" / UNET).unlink()
    model = load_model(entry, placement, WorkerSettings(models_dir=tmp_path / "other"))
    shards = [name for name in model.digests if "-of-" in name]
    assert len(shards) >= 2
    assert "unet/diffusion_pytorch_model.safetensors.index.json" in model.digests
    assert torch.equal(model.components["unet"].conv_in.weight, whole.conv_in.weight)


def test_shards_must_lie_beside_their_index(
    copied: Copied, settings: WorkerSettings, placement: Placement, tmp_path: Path
) -> None:
    entry = copied("sd")
    index = {"metadata": {}, "weight_map": {"a": "../../elsewhere.safetensors"}}
    (tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnsafe, match="beside it"):
        load_model(entry, placement, settings)


@pytest.mark.parametrize(
    ("index", "error", "said"),
    [
        (None, ModelMissing, r"diffusion_pytorch_model-00001-of-00002\.safetensors is a shard"),
        ({"weight_map": {"a": "b.safetensors"}}, ModelCorrupt, r"index\.json: has no table `metadata`"),
    ],
)
def test_an_index_of_shards_is_asked_for(
    copied: Copied,
    settings: WorkerSettings,
    placement: Placement,
    tmp_path: Path,
    index: dict[str, Any] | None,
    error: type[ModelError],
    said: str,
) -> None:
    entry, unet = copied("sd"), tmp_path / "model" / "unet"
    (tmp_path / "model" / UNET).rename(unet / "diffusion_pytorch_model-00001-of-00002.safetensors")
    if index:
        (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(error, match=said):
        load_model(entry, placement, settings)


def test_a_part_of_another_family_is_named(
    copied: Copied, tiny_models: TinyModels, settings: WorkerSettings, placement: Placement, tmp_path: Path
) -> None:
    entry, other = copied("sdxl"), tiny_models("sd").source
    assert isinstance(other, FolderSource)
    shutil.copytree(other.path / "unet", tmp_path / "model" / "unet", dirs_exist_ok=True)
    with pytest.raises(ModelIncompatible, match=re.escape(str(tmp_path / "model" / "unet" / "config.json"))):
        load_model(entry, placement, settings)


def test_half_precision_keeps_sdxls_vae_in_float32(tiny_models: TinyModels, settings: WorkerSettings) -> None:
    """Loading needs no device that can run float16."""
    half = Placement(torch.device("cpu"), torch.float16, "full", 1)
    sdxl, sd = (load_model(tiny_models(name), half, settings).components for name in ("sdxl", "sd"))
    assert (sdxl["unet"].dtype, sdxl["text_encoder_2"].dtype, sdxl["vae"].dtype) == (
        torch.float16,
        torch.float16,
        torch.float32,
    )
    assert sd["vae"].dtype == torch.float16
    brain = Placement(torch.device("cpu"), torch.bfloat16, "full", 1)
    assert load_model(tiny_models("sdxl"), brain, settings).components["vae"].dtype == torch.bfloat16


def test_a_fixed_vae_is_not_upcast(
    copied: Copied, settings: WorkerSettings, tmp_path: Path, edit: Callable[..., None]
) -> None:
    entry = copied("sdxl")
    edit(tmp_path / "model" / "vae" / "config.json", force_upcast=False)
    half = Placement(torch.device("cpu"), torch.float16, "full", 1)
    assert load_model(entry, half, settings).components["vae"].dtype == torch.float16


def test_loading_prints_nothing(
    tiny_models: TinyModels, settings: WorkerSettings, placement: Placement, capfd: pytest.CaptureFixture[str]
) -> None:
    load_model(tiny_models("sdxl"), placement, settings)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nmore"), OutOfMemory),
        (FileNotFoundError(2, "No such file", "weights"), ModelMissing),
        (PermissionError(13, "Permission denied", "weights"), ModelMissing),
        (OSError("Can't load the configuration"), ModelIncompatible),
        (RuntimeError("size mismatch"), ModelIncompatible),
        (KeyError("betas"), ModelIncompatible),
        (ImportError("bitsandbytes"), ModelIncompatible),
        (ModelUnsafe("pickle"), ModelUnsafe),
    ],
)
def test_errors_become_ours_at_one_door(raised: Exception, becomes: type[Exception]) -> None:
    with pytest.raises(becomes) as caught, one_door("m"):
        raise raised
    assert "\n" not in str(caught.value)


def test_a_model_made_of_another_has_its_files_and_its_pin(
    tiny_models: TinyModels, settings: WorkerSettings, placement: Placement
) -> None:
    entry = tiny_models("sdxl")
    load_model(entry, placement, settings)
    changes = {"timestep_spacing": "trailing"}
    derived = entry.model_copy(update={"name": "quick", "base": entry.name, "scheduler_config": changes})
    model = load_model(derived, placement, settings)
    assert read_lock(settings.models_dir).models.keys() == {entry.name}
    template = model.components["scheduler"]
    assert template.config.timestep_spacing == "trailing"
    for name in ("euler", "lcm", "ddim"):  # a value that was chosen: other schedulers have it, too
        assert make_scheduler(name, template, "sdxl", 0).config.timestep_spacing == "trailing"


def test_changes_of_a_schedulers_config_count_as_chosen() -> None:
    config = {"_use_default_values": ["steps_offset", "clip_sample"], "steps_offset": 0, "clip_sample": True}
    found = with_changes(config, {"steps_offset": 1})
    assert found == {"_use_default_values": ["clip_sample"], "steps_offset": 1, "clip_sample": True}
    assert DDIMScheduler.from_config(found).config.steps_offset == 1
    assert with_changes({"steps_offset": 0}, {}) == {"steps_offset": 0}
