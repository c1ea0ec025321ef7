"""The state of a training as the bytes of one safetensors file, and back.

Tensors are named `lora.PARAMETER` and `optimizer.PARAMETER.VALUE`; all else stands in the one entry of its metadata, as
JSON. Noise, order and learning rates follow from the seed and the step, so that no generator is in it.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from darkroom.tasks import __version__
from darkroom.worker.errors import CheckpointInvalid
from darkroom.worker.models.device import Placement, environment, installed
from darkroom.worker.training.optimizers import OptimizerState

METADATA = "darkroom"
_FORMAT = 1
_LORA, _OPTIMIZER = "lora.", "optimizer."

#: What the bits of a training do not depend on.
_NO_SAY = ("speedups", "compiled_sizes")


@dataclass(frozen=True)
class TrainingState:
    """`losses` of the steps that are done. `training`: digests of all that makes it this training, by what they are of.

    `surroundings`: versions, threads and device, on which bits depend. `scaler`: that of losses in float16.
    """

    losses: Sequence[float]
    lora: Mapping[str, torch.Tensor]
    optimizer: OptimizerState
    training: Mapping[str, str]
    surroundings: Mapping[str, str | int]
    scaler: Mapping[str, float]


def surroundings(placement: Placement) -> dict[str, str | int]:
    """Of this thread, for models that are placed so."""
    found = {name: value for name, value in environment(placement).items() if name not in _NO_SAY}
    return {**found, "threads": torch.get_num_threads(), "peft": installed("peft"), "darkroom": __version__}


def pack(state: TrainingState) -> bytes:
    """The same bytes for the same state."""
    optimizer = state.optimizer
    tensors = {f"{_LORA}{name}": tensor.detach().cpu().contiguous() for name, tensor in state.lora.items()}
    for name, values in optimizer.tensors.items():
        tensors |= {f"{_OPTIMIZER}{name}.{key}": value.contiguous() for key, value in values.items()}
    about = {
        "format": _FORMAT,
        "losses": list(state.losses),
        "training": dict(state.training),
        "surroundings": dict(state.surroundings),
        "scaler": dict(state.scaler),
        "optimizer": {"numbers": optimizer.numbers, "group": optimizer.group},
    }
    return save(tensors, {METADATA: json.dumps(about, sort_keys=True)})


def unpack(data: bytes) -> TrainingState:
    """Raises CheckpointInvalid for bytes that `pack` did not make."""
    try:
        about, tensors = _about(data), load(data)
        lora = {name.removeprefix(_LORA): one for name, one in tensors.items() if name.startswith(_LORA)}
        values: dict[str, dict[str, torch.Tensor]] = {}
        for name, one in tensors.items():
            if name.startswith(_OPTIMIZER):
                parameter, _, key = name.removeprefix(_OPTIMIZER).rpartition(".")
                values.setdefault(parameter, {})[key] = one
        optimizer = OptimizerState(values, about["optimizer"]["numbers"], about["optimizer"]["group"])
        return TrainingState(
            about["losses"], lora, optimizer, about["training"], about["surroundings"], about["scaler"]
        )
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointInvalid(f"the checkpoint cannot be read: {type(error).__name__}: {str(error)[:200]}") from error


def check(state: TrainingState, training: Mapping[str, str], lora: Mapping[str, torch.Tensor]) -> None:
    """Raises CheckpointInvalid, which names all that differs, unless it is the state of this training."""
    others = [what for what, digest in training.items() if state.training.get(what) != digest]
    if others:
        raise CheckpointInvalid(f"the checkpoint is of a training with another {' and another '.join(others)}")
    wrong = [
        f"{name} is {_form(state.lora.get(name))}, not {_form(one)}"
        for name, one in lora.items()
        if _form(state.lora.get(name)) != _form(one)
    ]
    wrong += [f"{name} is no layer of this training" for name in state.lora if name not in lora]
    wrong += [f"{name} is not finite" for name, one in state.lora.items() if not bool(one.isfinite().all())]
    known = {*state.optimizer.tensors, *state.optimizer.numbers}
    wrong += [f"{name} of the optimizer is no layer of this training" for name in sorted(known) if name not in lora]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointInvalid(f"the checkpoint's tensors do not fit: {'; '.join(wrong[:3])}{more}")


def differences(state: TrainingState, now: Mapping[str, str | int]) -> list[str]:
    """What is not as it was when the state was kept, in words."""
    before = state.surroundings
    return [
        f"{name} was {before.get(name, 'unknown')}, is {now.get(name, 'unknown')}: "
        "the LoRA can differ in its last bits from one that was trained in one go"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _about(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", data[:8])
    about: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][METADATA])
    if about["format"] != _FORMAT or not all(isinstance(loss, float) for loss in about["losses"]):
        raise ValueError(f"its format is {about['format']!r}, this release reads {_FORMAT}")
    return about


def _form(tensor: torch.Tensor | None) -> str:
    shape = None if tensor is None else "x".join(map(str, tensor.shape))
    return "absent" if tensor is None else f"{shape} {str(tensor.dtype).removeprefix('torch.')}"
