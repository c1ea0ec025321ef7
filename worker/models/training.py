"""What a single file says of its training: what the denoiser predicts, and whether its noise ends in noise alone.

Programs write it in three ways. Tensors beside the weights, of which the names count (ComfyUI, AUTOMATIC1111, Forge).
The header's metadata: ModelSpec (https://github.com/Stability-AI/ModelSpec) and what sd-scripts notes of a training.
And a weight by which ComfyUI and stable-diffusion.cpp know the v-prediction models of Stable Diffusion 2.
"""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.models.configs import read_json
from darkroom.worker.models.families import FamilySpec
from darkroom.worker.models.weights import WeightsFile

V, EPSILON = "v_prediction", "epsilon"

_SPELLINGS = {
    **dict.fromkeys(("epsilon", "eps"), EPSILON),
    **dict.fromkeys(("v", "v_prediction", "v-prediction", "v_pred", "v-pred", "v-zsnr"), V),
}
_YES, _NO = ("true", "1"), ("false", "0")

# Zero terminal SNR asks for the last time step, which leading spacing leaves out (arXiv:2305.08891, section 3.3).
_ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
_KNOWS_ZERO_SNR = "DDIMScheduler"

_COSXL = ("edm_vpred.sigma_max", "edm_vpred.sigma_min")
_EDM = {"edm_mean": "latents_mean", "edm_std": "latents_std"}

# In ComfyUI's supported_models.py, for Stable Diffusion 2 (its text embeddings are 1024 wide).
_LAST_BLOCK = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0."
_TELLING, _READS_TEXT, _SD2_WIDTH, _SPREAD_OF_V = "norm1.bias", "attn2.to_k.weight", 1024, 0.09


def as_trained(config: Mapping[str, Any], spec: FamilySpec, file: WeightsFile, configs: Path) -> dict[str, Any]:
    """The scheduler's config with what the file says of its training; what it leaves unsaid is the config's.

    Raises ModelIncompatible for a training that the family does not run, and for contradictions.
    """
    _check_edm(spec, file, configs)
    said, zero = _prediction(file), _zero_snr(file)
    if said is None and spec.name == "sd" and _is_v_by_weight(file):
        said = V
    planned = config.get("prediction_type", EPSILON)
    if said == EPSILON != planned:
        raise ModelIncompatible(
            f"{file.path}: its metadata says that it predicts {said}, the scheduler's config says {planned}",
            hint="correct `prediction_type` in the config's scheduler/scheduler_config.json, or the file's metadata",
        )
    predicts = said or planned
    if spec.name == "playground" and (zero or predicts != EPSILON):
        raise ModelIncompatible(f"{file.path}: trained for {predicts}; the family playground is trained under EDM")
    if zero and predicts != V:
        raise ModelIncompatible(
            f"{file.path}: says zero terminal SNR, which works for v-prediction alone, and that it predicts {predicts}",
            hint='if it predicts v, say `"prediction_type": "v_prediction"` in the config\'s scheduler_config.json',
        )
    changed = {**config, "prediction_type": predicts}
    return _with_zero_snr(changed, spec) if zero else changed


def _with_zero_snr(config: dict[str, Any], spec: FamilySpec) -> dict[str, Any]:
    """Of a class that knows it; how images are sampled is not the template's to say."""
    known = signature(spec.schedulers[config["_class_name"]].__init__).parameters
    named = {} if "rescale_betas_zero_snr" in known else {"_class_name": _KNOWS_ZERO_SNR}
    return {**config, **_ZERO_SNR, **named}


def _prediction(file: WeightsFile) -> str | None:
    """A tensor counts more than metadata, which merges and trainers copy from elsewhere; all programs look there."""
    if "v_pred" in file.names:
        return V
    said = {key: value for key, value in _statements(file.metadata) if value}
    for key, value in said.items():
        if value not in _SPELLINGS:
            raise ModelIncompatible(
                f"{file.path}: its metadata says that it predicts {value!r} ({key}); noise and v are what can be run",
                hint="choose a model that predicts noise (epsilon) or v",
            )
    if len({_SPELLINGS[value] for value in said.values()}) > 1:
        listed = ", ".join(f"{key} is {value}" for key, value in said.items())
        raise ModelIncompatible(
            f"{file.path}: its metadata contradicts itself: {listed}",
            hint="correct the metadata; an empty tensor `v_pred` says v-prediction to every program",
        )
    return _SPELLINGS[next(iter(said.values()))] if said else None


def _statements(metadata: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the metadata says of the prediction, by key."""
    texts = [(key, metadata.get(key, "").lower()) for key in ("modelspec.prediction_type", "modelspec.predict_key")]
    flags = [(key, metadata.get(key, "").lower()) for key in ("ss_v_parameterization", "ss_v_prediction")]
    told = [(key, V if value in _YES else EPSILON) for key, value in flags if value in (*_YES, *_NO)]
    named = "modelspec.architecture"
    architecture = [(named, V)] if metadata.get(named, "").startswith("stable-diffusion-v2-768-v") else []
    return [*texts, *told, *architecture]


def _zero_snr(file: WeightsFile) -> bool:
    noted = file.metadata.get("ss_zero_terminal_snr", "").lower() in _YES
    return "ztsnr" in file.names or noted or file.metadata.get("modelspec.prediction_type") == "v-zsnr"


def _is_v_by_weight(file: WeightsFile) -> bool:
    reads = file.tensor(_LAST_BLOCK + _READS_TEXT)
    if reads is None or reads.shape[1:] != (_SD2_WIDTH,) or file.tensor(_LAST_BLOCK + _TELLING) is None:
        return False
    return float(_read(file.path, _LAST_BLOCK + _TELLING).std(unbiased=False)) > _SPREAD_OF_V


def _check_edm(spec: FamilySpec, file: WeightsFile, configs: Path) -> None:
    """Playground's statistics of latents, which ComfyUI knows it by, and CosXL's noise levels."""
    found = [name for name in (*_COSXL, *_EDM) if name in file.names]
    if found and (spec.name != "playground" or found[0] in _COSXL):
        raise ModelIncompatible(
            f"{file.path}: trained under EDM (it holds {found[0]}), not as a model of the family {spec.name}",
            hint="Playground v2.5 is of the family `playground`; CosXL is not supported",
        )
    for name in found:
        path = configs / "vae" / "config.json"
        own, there = _read(file.path, name).flatten(), read_json(path).get(_EDM[name])
        if not isinstance(there, list) or not torch.allclose(own, torch.tensor(there), rtol=0.01):
            raise ModelIncompatible(f"{path}: {_EDM[name]} is {there}, {file.path} says {own.tolist()}")


def _read(path: Path, name: str) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        found: torch.Tensor = file.get_tensor(name)
        return found.float()
