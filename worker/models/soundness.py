"""Whether what was loaded can work: faults that the libraries let through, to be met by the first job or by all."""

import json
import math
from pathlib import Path
from typing import Any

import torch

from darkroom.worker.errors import ModelCorrupt, ModelIncompatible
from darkroom.worker.models.configs import read_json
from darkroom.worker.models.naming import of_diffusers
from darkroom.worker.models.weights import WeightsFile

START_AND_END = 2  # tokens
_WORD_END = "</w>"
_TOLERATED = 0.01  # of the words, as somebody may have added some; the published vocabularies have none without a merge


def check_size(path: Path, kind: Any, held: list[WeightsFile]) -> None:
    """Raises ModelIncompatible for a config of far more weights than are held, and what building its module raises.

    The module is built without memory; the libraries would ask the machine for it first, which may end the process.
    """
    config = read_json(path)
    with torch.device("meta"):
        module = kind.from_config(config) if of_diffusers(kind) else kind(kind.config_class.from_dict(config))
    described = sum(parameter.numel() for parameter in module.parameters())
    there = sum(file.parameters for file in held)
    if described > 2 * there:
        raise ModelIncompatible(f"{path}: describes {described} weights where {there} are", hint=_RESTORE)


def check_finite(module: torch.nn.Module, held: list[WeightsFile]) -> None:
    """Raises ModelCorrupt for a weight that is NaN or infinite, as a broken conversion leaves them."""
    for name, parameter in module.named_parameters():
        if parameter.numel() and not all(bound.isfinite() for bound in torch.aminmax(parameter.detach())):
            paths = [file.path for file in held if any(tensor.name.endswith(name) for tensor in file.tensors)]
            raise ModelCorrupt(
                f"{(paths or [held[0].path])[0]}: {name} holds numbers that are none (NaN or infinity)",
                hint="pull the model again; a conversion to fp16 may have broken it",
            )


def fit_tokenizer(tokenizer: Any, folder: Path, encoder: Any) -> None:
    """Lets a tokenizer give what the text encoder of this config can read. Raises ModelIncompatible.

    The libraries look at neither length nor ids: on a GPU an id that is too large ends the process.
    """
    config, room = folder / "tokenizer_config.json", tokenizer.model_max_length
    most = min(room, encoder.max_position_embeddings)  # without the entry it is endless
    if most != int(most) or most <= START_AND_END:
        raise ModelIncompatible(f"{config}: model_max_length is {room}, no number of tokens", hint=_RESTORE)
    tokenizer.model_max_length = int(most)
    ids = list(tokenizer.get_vocab().values())
    if len(ids) <= START_AND_END:
        raise ModelIncompatible(f"{folder / 'vocab.json'}: a vocabulary without words", hint=_RESTORE)
    if min(ids) < 0 or max(ids) >= encoder.vocab_size:
        raise ModelIncompatible(
            f"{folder / 'vocab.json'}: ids up to {max(ids)}, of which the text encoder knows {encoder.vocab_size}",
            hint=_RESTORE,
        )
    _check_merges(tokenizer, folder)
    for prompt in ("", "a photograph of a cat"):
        given = tokenizer(prompt, padding="max_length", max_length=int(most), truncation=True).input_ids
        if len(given) != most or tokenizer.eos_token_id not in given:
            raise ModelIncompatible(f"{config}: prompts do not come out whole, padded and ended", hint=_RESTORE)


def _check_merges(tokenizer: Any, folder: Path) -> None:
    """Raises ModelCorrupt for words that no merge makes: prompts would be spelled, and mean other pictures."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    made = {"".join(pair) for pair in model["merges"]} | set(tokenizer.all_special_tokens)
    words = [word for word in model["vocab"] if len(word.removesuffix(_WORD_END)) > 1]
    lost = [word for word in words if word not in made]
    if len(lost) > len(words) * _TOLERATED:
        raise ModelCorrupt(
            f"{folder / 'merges.txt'}: makes {len(words) - len(lost)} of the vocabulary's {len(words)} words",
            hint="it may be truncated: pull the model again, or restore it",
        )


def check_vae(path: Path, config: Any) -> None:
    """Raises ModelIncompatible for a VAE whose latents cannot be scaled, or are not those of the families."""
    scale = config.scaling_factor
    if not _is_number(scale) or scale <= 0:
        raise ModelIncompatible(f"{path}: scaling_factor is {scale}, no positive number", hint=_RESTORE)
    if config.latent_channels != 4 or len(config.block_out_channels) != 4:
        raise ModelIncompatible(f"{path}: its latents are not of 4 channels and an eighth of the picture's sides")
    mean, std = config.get("latents_mean"), config.get("latents_std")
    for name, values in (("latents_mean", mean), ("latents_std", std)):
        if values is not None and not (
            isinstance(values, list) and len(values) == 4 and all(_is_number(value) for value in values)
        ):
            raise ModelIncompatible(f"{path}: {name} is {values}, not four numbers", hint=_RESTORE)
    if std is not None and min(std) <= 0:
        raise ModelIncompatible(f"{path}: latents_std is {std}, not four positive numbers", hint=_RESTORE)


_RESTORE = "restore the model's files"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
