"""What a single file says of its training, in each of the ways that other programs write it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from darkroom.tasks.catalogue import Family, FileSource, FolderSource, ModelEntry
from darkroom.worker.batching.engine import Engine
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.records import scheduler_record_of
from darkroom.worker.models.configs import read_json
from darkroom.worker.models.device import Placement
from darkroom.worker.models.families import family
from darkroom.worker.models.loading import LoadedModel, load_model
from darkroom.worker.models.training import as_trained
from darkroom.worker.models.weights import inspect_weights
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.unit.worker.conftest import Models, make, same
from tests.unit.worker.models.conftest import Copied
from tests.unit.worker.models.original import original_checkpoint

Tensors = dict[str, torch.Tensor]
Trained = Callable[..., dict[str, Any]]

NONE = torch.zeros(0)
V_PRED, ZTSNR = {"v_pred": NONE}, {"v_pred": NONE, "ztsnr": NONE}
ZERO = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
SPEC = "modelspec.prediction_type"


@pytest.fixture
def trained(tiny_models: TinyModels, tmp_path: Path) -> Trained:
    """The scheduler's config that a file with these tensors and this metadata gets over the tiny model's own."""

    def read(name: Family, tensors: Tensors, said: dict[str, str], **own: Any) -> dict[str, Any]:
        source = tiny_models(name).source
        assert isinstance(source, FolderSource)
        save_file(tensors, tmp_path / "file.safetensors", metadata={"format": "pt", **said})
        config = {**read_json(source.path / "scheduler" / "scheduler_config.json"), **own}
        return as_trained(config, family(name), inspect_weights(tmp_path / "file.safetensors"), source.path)

    return read


@pytest.mark.parametrize(
    ("tensors", "said", "expected"),
    [
        ({}, {}, {"prediction_type": "epsilon", "timestep_spacing": "leading"}),
        (V_PRED, {}, {"prediction_type": "v_prediction", "timestep_spacing": "leading"}),
        (ZTSNR, {}, ZERO),
        ({"v_pred": torch.zeros(1), "ztsnr": torch.ones(1)}, {}, ZERO),
        (V_PRED, {"ss_zero_terminal_snr": "True"}, ZERO),
        (V_PRED, {"ss_zero_terminal_snr": "False"}, {"prediction_type": "v_prediction"}),
        ({}, {SPEC: "v"}, {"prediction_type": "v_prediction"}),
        ({}, {SPEC: "epsilon"}, {"prediction_type": "epsilon"}),
        ({}, {SPEC: "v-zsnr"}, ZERO),
        ({}, {"modelspec.predict_key": "v"}, {"prediction_type": "v_prediction"}),
        ({}, {"ss_v_parameterization": "True"}, {"prediction_type": "v_prediction"}),
        ({}, {"ss_v_parameterization": "None"}, {"prediction_type": "epsilon"}),
        (V_PRED, {SPEC: "epsilon", "ss_v_parameterization": "False"}, {"prediction_type": "v_prediction"}),
    ],
)
def test_markers_decide(trained: Trained, tensors: Tensors, said: dict[str, str], expected: dict[str, Any]) -> None:
    found = trained("sdxl", tensors, said)
    assert {key: found[key] for key in expected} == expected
    assert found["beta_end"] == 0.012  # the rest is the config's


def test_what_the_file_leaves_unsaid_is_the_configs(trained: Trained) -> None:
    assert trained("sdxl", {}, {}, prediction_type="v_prediction")["prediction_type"] == "v_prediction"
    zero = trained("sdxl", {"ztsnr": NONE}, {}, prediction_type="v_prediction")
    assert {key: zero[key] for key in ZERO} == ZERO


@pytest.mark.parametrize(
    ("name", "tensors", "said", "own", "named"),
    [
        ("sdxl", {}, {SPEC: "rectified_flow"}, {}, "predicts 'rectified_flow'"),
        ("sdxl", {}, {"modelspec.predict_key": "sample"}, {}, "predicts 'sample'"),
        ("sdxl", {}, {SPEC: "v", "ss_v_parameterization": "False"}, {}, "contradicts itself"),
        ("sdxl", {}, {SPEC: "epsilon"}, {"prediction_type": "v_prediction"}, "config says v_prediction"),
        ("sdxl", {"ztsnr": NONE}, {}, {}, "works for v-prediction alone"),
        ("sd", {}, {"ss_zero_terminal_snr": "True"}, {}, "works for v-prediction alone"),
        ("sdxl", {"edm_mean": torch.zeros(4), "edm_std": torch.ones(4)}, {}, {}, "trained under EDM"),
        ("sd", {"edm_vpred.sigma_max": torch.tensor(120.0)}, {}, {}, "trained under EDM"),
        ("playground", {"edm_vpred.sigma_max": torch.tensor(120.0)}, {}, {}, "trained under EDM"),
        ("playground", {"edm_mean": torch.zeros(4)}, {}, {}, r"config.json: latents_mean is \[-1"),
        ("playground", V_PRED, {}, {}, "trained for v_prediction"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    trained: Trained, name: Family, tensors: Tensors, said: dict[str, str], own: dict[str, Any], named: str
) -> None:
    with pytest.raises(ModelIncompatible, match=named) as caught:
        trained(name, tensors, said, **own)
    assert "file.safetensors" in caught.value.message


def test_playgrounds_statistics_are_those_of_its_configs(trained: Trained) -> None:
    mean, std = [-1.6574, 1.886, -1.383, 2.5155], [8.4927, 5.9022, 6.5498, 5.2299]
    tensors = {"edm_mean": torch.tensor(mean).view(1, 4, 1, 1), "edm_std": torch.tensor(std).view(1, 4, 1, 1)}
    assert trained("playground", tensors, {})["sigma_data"] == 0.5


@pytest.mark.parametrize(
    ("width", "spread", "expected"),
    [(1024, 0.2, "v_prediction"), (1024, 0.01, "epsilon"), (768, 0.2, "epsilon")],
)
def test_a_weight_tells_of_stable_diffusion_2s_v_prediction(
    trained: Trained, width: int, spread: float, expected: str
) -> None:
    block = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0"
    tensors = {
        f"{block}.attn2.to_k.weight": torch.zeros(8, width),
        f"{block}.norm1.bias": torch.tensor([-spread, spread] * 4),
    }
    assert trained("sd", tensors, {})["prediction_type"] == expected
    named = {"modelspec.architecture": "stable-diffusion-v2-768-v"}
    assert trained("sd", {}, named)["prediction_type"] == "v_prediction"


@pytest.fixture
def noob(copied: Copied, models: Models, placement: Placement, settings: WorkerSettings, tmp_path: Path) -> LoadedModel:
    """A tiny SDXL in one file that is marked as NoobAI-XL is, over the configs of the base model."""
    entry = copied("sdxl")
    tensors = original_checkpoint("sdxl", models("sdxl").components)
    save_file({**tensors, **ZTSNR}, tmp_path / "noob.safetensors")
    return load_model(_single(entry, tmp_path / "noob.safetensors"), placement, settings)


def _single(entry: ModelEntry, path: Path) -> ModelEntry:
    assert isinstance(entry.source, FolderSource)
    fitting = [name for name in entry.schedulers if name != "dpmpp_sde"]
    source = FileSource(path=path, config=entry.source.path)
    return entry.model_copy(update={"name": "single", "source": source, "schedulers": fitting})


def test_a_marked_file_makes_the_pictures_of_a_folder_that_is_configured_so(
    noob: LoadedModel,
    engine: Engine,
    edit: Callable[..., None],
    placement: Placement,
    settings: WorkerSettings,
    tmp_path: Path,
    models: Models,
) -> None:
    plain = make(Generator(models("sdxl"), engine))
    edit(tmp_path / "model" / "scheduler" / "scheduler_config.json", **ZERO)
    folder = noob.entry.model_copy(update={"name": "folder", "source": FolderSource(path=tmp_path / "model")})
    picture = make(Generator(noob, engine))
    assert same(picture, make(Generator(load_model(folder, placement, settings), engine)))
    assert not same(picture, plain)
    recorded = scheduler_record_of(noob, "euler").config  # in the manifest, so that replay tells of another reading
    assert {key: recorded[key] for key in ZERO} == ZERO


def test_a_scheduler_that_cannot_begin_at_zero_snr_is_refused(noob: LoadedModel, engine: Engine) -> None:
    entry = noob.entry.model_copy(update={"schedulers": ["euler", "pndm", "dpmpp_sde"]})
    with pytest.raises(ModelIncompatible, match="zero terminal SNR: pndm, dpmpp_sde cannot run it"):
        Generator(LoadedModel(entry, noob.family, noob.components, noob.placement, "local", {}), engine)


def test_a_template_that_knows_no_zero_snr_gives_way(trained: Trained) -> None:
    found = trained("sd", ZTSNR, {})
    assert {key: found[key] for key in ZERO} == ZERO
    scheduler = family("sd").schedulers[found["_class_name"]].from_config(found)
    assert scheduler.alphas_cumprod[-1] == 0
