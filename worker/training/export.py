"""A trained LoRA as the file that other programs read: in the names of sd-scripts, which all of them know."""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from safetensors.torch import save

from darkroom.worker.adapters.names import ModelLayers, original_names
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.models.training import EPSILON, V
from darkroom.worker.training.lora import Matrices
from darkroom.worker.training.options import TrainingOptions

_SD = {"unet": "lora_unet", "text_encoder": "lora_te"}
_SDXL = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
_SD2_WIDTH = 1024  # of the text embeddings of Stable Diffusion 2


def lora_file(
    model: LoadedModel, options: TrainingOptions, trained: Iterable[Matrices], metadata: Mapping[str, str]
) -> bytes:
    """A safetensors file, all float32; the same bytes for the same matrices.

    The denoiser's layers have the names of SDXL's original release, for Stable Diffusion those of diffusers, as
    sd-scripts writes them. `metadata` goes over what is said of the training here.
    """
    prefixes, originals = _names(model)
    tensors = {}
    for one in trained:
        name = originals.get(one.path, one.path) if one.part == "unet" else _with_text_model(one.path)
        stem = f"{prefixes[one.part]}_{name.replace('.', '_')}"
        tensors[f"{stem}.lora_down.weight"] = _kept(one.down)
        tensors[f"{stem}.lora_up.weight"] = _kept(one.up)
        tensors[f"{stem}.alpha"] = torch.tensor(options.scale)
    plain = save(tensors)
    return _with_metadata(plain, {**_about(model, options), "sshs_model_hash": _digest(plain), **metadata})


def _names(model: LoadedModel) -> tuple[dict[str, str], dict[str, str]]:
    """How the names of parts begin, and the original names of the denoiser's layers where those are used."""
    if model.family.name == "sd":
        return _SD, {}
    return _SDXL, original_names(ModelLayers({"unet": model.components["unet"]}).parts["unet"])


def _with_text_model(path: str) -> str:
    """Transformers 5 has no `text_model` in an encoder without projection; files do."""
    return path if path.startswith("text_model.") else f"text_model.{path}"


def _kept(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.detach().cpu().contiguous()


def _about(model: LoadedModel, options: TrainingOptions) -> dict[str, str]:
    """What sd-scripts notes of a training, and https://github.com/Stability-AI/ModelSpec; nothing of time or place."""
    predicts = model.components["scheduler"].config.prediction_type
    base, architecture = _base(model, v=predicts == V)
    convolutions = {"network_args": {"conv_dim": str(options.rank), "conv_alpha": str(options.scale)}}
    noted: dict[str, Any] = {
        "sd_model_name": model.entry.name,
        "base_model_version": base,
        "v2": base.startswith("sd_v2"),
        "v_parameterization": predicts == V,
        "network_module": "networks.lora",
        "network_dim": options.rank,
        "network_alpha": options.scale,
        **({name: json.dumps(said) for name, said in convolutions.items()} if options.targets == "all" else {}),
        "max_train_steps": options.steps,
        "seed": options.seed,
        "learning_rate": options.learning_rate,
        "lr_scheduler": options.lr_schedule,
        "lr_warmup_steps": options.warmup_steps,
        "optimizer": options.optimizer,
        "max_grad_norm": options.max_grad_norm,
        "batch_size_per_device": options.batch_size,
        "gradient_accumulation_steps": options.gradient_accumulation,
        "gradient_checkpointing": options.gradient_checkpointing,
        "min_snr_gamma": options.min_snr_gamma,
        "noise_offset": options.noise_offset,
        "prior_loss_weight": options.prior_loss_weight,
    }
    spec = {
        "sai_model_spec": "1.0.0",
        "architecture": f"{architecture}/lora",
        "implementation": "https://github.com/Stability-AI/generative-models",
        "prediction_type": {V: "v", EPSILON: "epsilon"}.get(predicts, predicts),
    }
    return {f"ss_{key}": str(one) for key, one in noted.items()} | {
        f"modelspec.{key}": one for key, one in spec.items()
    }


def _base(model: LoadedModel, *, v: bool) -> tuple[str, str]:
    """The structure that the LoRA fits, in the words of sd-scripts and of ModelSpec."""
    if model.family.name != "sd":
        return "sdxl_base_v1-0", "stable-diffusion-xl-v1-base"
    if model.components["unet"].config.cross_attention_dim != _SD2_WIDTH:
        return f"sd_v1{'_v' if v else ''}", "stable-diffusion-v1"
    return ("sd_v2_v", "stable-diffusion-v2-768-v") if v else ("sd_v2", "stable-diffusion-v2-512")


def _digest(data: bytes) -> str:
    """Of the tensors alone, as sd-scripts has it."""
    return hashlib.sha256(data[_start(data) :]).hexdigest()


def _with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """Written by hand: safetensors puts several entries in an order of chance, and the bytes are to be the same."""
    start = _start(data)
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8:start])}
    written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    padded = written + b" " * (-len(written) % 8)  # the tensors begin at a multiple of 8, as the library has them
    return struct.pack("<Q", len(padded)) + padded + data[start:]


def _start(data: bytes) -> int:
    return 8 + int(struct.unpack("<Q", data[:8])[0])
