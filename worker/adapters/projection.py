"""From what the image encoder says of a picture to the tokens that the denoiser looks at, in both public forms.

Source: https://github.com/tencent-ailab/IP-Adapter, `ip_adapter.py` (ImageProjModel) and `resampler.py`. The modules
are diffusers'; its own conversion builds what a hostile file asks for, and wants four layers, so the names are ours.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.models.embeddings import ImageProjection, IPAdapterPlusImageProjection
from torch import Tensor

from darkroom.worker.errors import AdapterIncompatible

#: `plain` reads the embedding of the whole picture, `plus` the states of all of its patches.
Form = Literal["plain", "plus"]

#: Of the plain form; no file says how many there are.
_PLAIN_TOKENS = 4
_HEAD = 64  # width of a resampler's heads

_RENAMED = (
    (r"^proj\.", "image_embeds."),
    (r"^layers\.(\d+)\.0\.norm1\.", r"layers.\1.ln0."),
    (r"^layers\.(\d+)\.0\.norm2\.", r"layers.\1.ln1."),
    (r"^layers\.(\d+)\.0\.to_(q|k|v)\.", r"layers.\1.attn.to_\2."),
    (r"^layers\.(\d+)\.0\.to_out\.", r"layers.\1.attn.to_out.0."),
    (r"^layers\.(\d+)\.1\.0\.", r"layers.\1.ff.0."),
    (r"^layers\.(\d+)\.1\.1\.", r"layers.\1.ff.1.net.0.proj."),
    (r"^layers\.(\d+)\.1\.3\.", r"layers.\1.ff.1.net.2."),
)

Shapes = Mapping[str, tuple[int, ...]]


def form_of(path: Path, shapes: Shapes) -> Form:
    """By the names of the projection's tensors. Raises AdapterIncompatible for the forms made for faces, and others."""
    if "proj.weight" in shapes:
        return "plain"
    if "latents" in shapes:
        return "plus"
    if "perceiver_resampler.proj_in.weight" in shapes or "proj.0.weight" in shapes:
        raise AdapterIncompatible(
            f"{path}: an IP-Adapter for faces (FaceID or full face), which takes more than a picture's style",
            hint="use the plain form or the plus form, such as ip-adapter_sdxl or ip-adapter-plus_sd15",
        )
    raise AdapterIncompatible(f"{path}: its image_proj is of no known form", hint=HINT)


def make_projection(path: Path, tensors: Mapping[str, Tensor], cross_width: int) -> Any:
    """A module of diffusers with these weights, which are named as in the file.

    Raises AdapterIncompatible naming the first misfit.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    form = form_of(path, shapes)
    with torch.device("meta"):  # without memory: what a broken file describes may be endless
        module = _plain(path, shapes, cross_width) if form == "plain" else _plus(path, shapes, cross_width)
    found = _renamed(tensors)
    _check_all(path, {name: tuple(tensor.shape) for name, tensor in found.items()}, module.state_dict())
    module.load_state_dict(found, assign=True)
    return module


def token_count(module: Any) -> int:
    """How many tokens a picture gives."""
    if isinstance(module, ImageProjection):
        return int(module.num_image_text_embeds)
    return int(module.latents.shape[1])


def encoder_width(module: Any) -> int:
    """Width of what it reads: of the embedding, or of the states of patches."""
    first = module.image_embeds if isinstance(module, ImageProjection) else module.proj_in
    return int(first.in_features)


def _plain(path: Path, shapes: Shapes, cross_width: int) -> Any:
    out, width = _matrix(path, shapes, "proj.weight")
    if out != _PLAIN_TOKENS * cross_width:
        _refuse(path, "proj.weight", (out, width), (_PLAIN_TOKENS * cross_width, width))
    return ImageProjection(width, cross_width, _PLAIN_TOKENS)


def _plus(path: Path, shapes: Shapes, cross_width: int) -> Any:
    hidden, width = _matrix(path, shapes, "proj_in.weight")
    out, _ = _matrix(path, shapes, "proj_out.weight")
    inner, _ = _matrix(path, shapes, "layers.0.0.to_q.weight")
    widened, _ = _matrix(path, shapes, "layers.0.1.1.weight")
    if out != cross_width:
        _refuse(path, "proj_out.weight", (out, hidden), (cross_width, hidden))
    latents = shapes["latents"]
    if len(latents) != 3 or not all(latents) or not hidden or inner < _HEAD or inner % _HEAD or widened % hidden:
        raise AdapterIncompatible(f"{path}: image_proj is no resampler (latents {list(latents)})", hint=HINT)
    depth = len({match[1] for name in shapes if (match := re.match(r"layers\.(\d+)\.", name))})
    return IPAdapterPlusImageProjection(
        embed_dims=width,
        output_dims=out,
        hidden_dims=hidden,
        depth=depth,
        dim_head=_HEAD,
        heads=inner // _HEAD,
        num_queries=latents[1],
        ffn_ratio=widened // hidden,
    )


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of diffusers; keys and values of a resampler come as one matrix."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        both = [name.replace(".to_kv.", f".to_{one}.") for one in "kv"] if ".to_kv." in name else [name]
        for one, part in zip(both, tensor.chunk(len(both)), strict=False):
            for pattern, plain in _RENAMED:
                one = re.sub(pattern, plain, one)
            found[one] = part
    return found


def _check_all(path: Path, found: Shapes, wanted: Mapping[str, Tensor]) -> None:
    lacks = sorted(wanted.keys() - found.keys())
    if lacks:
        raise AdapterIncompatible(f"{path}: its image_proj lacks {len(lacks)} tensors, such as {lacks[0]}", hint=HINT)
    more = sorted(found.keys() - wanted.keys())
    if more:
        raise AdapterIncompatible(f"{path}: its image_proj has a tensor that belongs to no known form: {more[0]}")
    for name, tensor in wanted.items():
        if found[name] != tuple(tensor.shape):
            _refuse(path, name, found[name], tuple(tensor.shape))


def _matrix(path: Path, shapes: Shapes, name: str) -> tuple[int, int]:
    shape = shapes.get(name, ())
    if len(shape) != 2:
        raise AdapterIncompatible(f"{path}: image_proj.{name} is {list(shape) or 'not there'}, no matrix", hint=HINT)
    return shape[0], shape[1]


def _refuse(path: Path, name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    raise AdapterIncompatible(
        f"{path}: image_proj.{name} is {list(found)} where the model needs {list(wanted)}", hint=OTHER_FAMILY
    )


HINT = "pull the IP-Adapter again, or name another file"
OTHER_FAMILY = "use an IP-Adapter that was made for the model's family"
