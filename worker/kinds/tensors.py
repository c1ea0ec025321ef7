"""Tensors of files that somebody else made."""

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from darkroom.storage.errors import InputCorrupt


def read_tensors(data: bytes) -> dict[str, torch.Tensor]:
    """On the host, by their names. Raises InputCorrupt: safetensors reads headers more strictly than we do."""
    try:
        return load(data)
    except SafetensorError as error:
        raise InputCorrupt(f"the file cannot be read: {str(error)[:200]}") from error
