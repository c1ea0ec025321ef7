"""A tiny IP-Adapter with random weights in the layout of the public files, and its image encoder."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from darkroom.worker.adapters.attention import cross_attention
from darkroom.worker.adapters.projection import Form

WIDTH, EMBEDDING, SIDE = 16, 24, 32
#: What carries a style and what a layout in the tiny denoisers, which have one attention less a block than real ones.
TINY_SHARES = {"style": {"up_blocks.": 1.0, "mid_block.": 0.5}, "layout": {"down_blocks.": 1.0}}
_HIDDEN, _TOKENS, _DEPTH, _HEADS = 16, 6, 4, 2


def make_tiny_style(
    unet: Any, folder: Path, form: Form = "plain", seed: int = 0, shares: Mapping[str, Any] | None = None
) -> tuple[Path, Path]:
    """Writes both into `folder`: the adapter's file for this denoiser, and the folder of its encoder.

    The weights follow from `seed` alone and the global generator stays as it was. `shares`: what the file says of what
    its layers carry (`TINY_SHARES`); None: nothing, so that the family's blocks count.
    """
    path, encoder = folder / "ip_adapter.safetensors", folder / "image_encoder"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _encoder().save_pretrained(encoder, safe_serialization=True)
        cross = unet.config.cross_attention_dim
        projection = _plain(cross) if form == "plain" else dict(_plus(cross))
        layers = dict(_layers(unet))
    named = {f"image_proj.{name}": tensor for name, tensor in projection.items()}
    said = {"format": "pt"} if shares is None else {"darkroom": json.dumps(shares)}
    save_file({**named, **layers}, path, metadata=said)
    return path, encoder


def _encoder() -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=8,
            projection_dim=EMBEDDING,
        )
    )


def _layers(unet: Any) -> Iterator[tuple[str, Tensor]]:
    for number, layer in enumerate(cross_attention(unet).values()):
        for name in ("to_k_ip", "to_v_ip"):
            yield f"ip_adapter.{2 * number + 1}.{name}.weight", _matrix(layer.inner_dim, layer.cross_attention_dim)


def _plain(cross: int) -> dict[str, Tensor]:
    return {
        "proj.weight": _matrix(4 * cross, EMBEDDING),
        "proj.bias": torch.randn(4 * cross),
        "norm.weight": torch.rand(cross) + 0.5,
        "norm.bias": torch.randn(cross),
    }


def _plus(cross: int) -> Iterator[tuple[str, Tensor]]:
    yield "latents", torch.randn(1, _TOKENS, _HIDDEN)
    for name, out, width in (("proj_in", _HIDDEN, WIDTH), ("proj_out", cross, _HIDDEN)):
        yield f"{name}.weight", _matrix(out, width)
        yield f"{name}.bias", torch.randn(out)
    yield from _norm("norm_out", cross)
    inner = 64 * _HEADS
    for layer in (f"layers.{number}" for number in range(_DEPTH)):
        for name in ("0.norm1", "0.norm2", "1.0"):
            yield from _norm(f"{layer}.{name}", _HIDDEN)
        yield f"{layer}.0.to_q.weight", _matrix(inner, _HIDDEN)
        yield f"{layer}.0.to_kv.weight", _matrix(2 * inner, _HIDDEN)
        yield f"{layer}.0.to_out.weight", _matrix(_HIDDEN, inner)
        yield f"{layer}.1.1.weight", _matrix(4 * _HIDDEN, _HIDDEN)
        yield f"{layer}.1.3.weight", _matrix(_HIDDEN, 4 * _HIDDEN)


def _norm(name: str, width: int) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", torch.rand(width) + 0.5
    yield f"{name}.bias", torch.randn(width) / 4


def _matrix(out: int, width: int) -> Tensor:
    """Keeps the size of what it is multiplied with."""
    matrix: Tensor = torch.randn(out, width) / width**0.5
    return matrix
