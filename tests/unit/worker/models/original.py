"""Diffusers' weights under the keys of the original releases: what diffusers' single-file converters undo.

Written from the released checkpoints' layout (CompVis' `ldm`, Stability's `sgm`, OpenCLIP), for models of any depth.
"""

import re
from typing import Any

import torch

from darkroom.tasks.catalogue import Family

Tensors = dict[str, torch.Tensor]

_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPENCLIP = {
    "text_model.encoder.layers": "transformer.resblocks",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
}


def original_checkpoint(family: Family, components: dict[str, Any]) -> Tensors:
    """All weights of a loaded model in one table."""
    first = components["text_encoder"].state_dict() if "text_encoder" in components else {}
    clip = {f"text_model.{key}": value for key, value in first.items()}
    text = "cond_stage_model.transformer." if family == "sd" else "conditioner.embedders.0.transformer."
    tensors = {
        **prefixed("model.diffusion_model.", _unet(components["unet"])),
        **prefixed("first_stage_model.", _vae(components["vae"])),
        **prefixed(text, clip),
    }
    if family != "sd":
        place = 1 if first else 0  # alone in a refiner
        tensors |= prefixed(
            f"conditioner.embedders.{place}.model.", openclip(components["text_encoder_2"].state_dict())
        )
    return {key: value.contiguous() for key, value in tensors.items()}


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    """The same tensors under longer names."""
    return {prefix + key: value for key, value in tensors.items()}


def _renamed(key: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        key = key.replace(old, new)
    return key


def _unet(unet: Any) -> Tensors:
    return {unet_key(key, unet): value for key, value in unet.state_dict().items()}


def unet_key(key: str, unet: Any) -> str:
    """One name."""
    layers, up_types = unet.config.layers_per_block + 1, unet.config.up_block_types
    if found := re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", key):
        side, block, part, index, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        number = block * layers + index + (1 if side == "down" else 0)
        stem = f"{'input' if side == 'down' else 'output'}_blocks.{number}"
        return f"{stem}.0.{_renamed(rest, _UNET_RESNET)}" if part == "resnets" else f"{stem}.1.{rest}"
    if found := re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.*)", key):
        return f"input_blocks.{(int(found[1]) + 1) * layers}.0.op.{found[2]}"
    if found := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(.*)", key):
        place = 2 if "Attn" in up_types[int(found[1])] else 1
        return f"output_blocks.{(int(found[1]) + 1) * layers - 1}.{place}.conv.{found[2]}"
    if found := re.match(r"mid_block\.resnets\.(\d)\.(.*)", key):
        return f"middle_block.{2 * int(found[1])}.{_renamed(found[2], _UNET_RESNET)}"
    if key.startswith("mid_block.attentions.0."):
        return key.replace("mid_block.attentions.0", "middle_block.1")
    return _renamed(key, _UNET)


def _vae(vae: Any) -> Tensors:
    tensors = {}
    for key, value in vae.state_dict().items():
        renamed = _vae_key(key, len(vae.config.up_block_types))
        linear = "attn_1" in renamed and value.ndim == 2  # the originals are convolutions of one pixel
        tensors[renamed] = value[:, :, None, None] if linear else value
    return tensors


def _vae_key(key: str, blocks: int) -> str:
    key = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d+)\.resnets", lambda found: f"up.{blocks - 1 - int(found[1])}.block", key)
    key = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda found: f"up.{blocks - 1 - int(found[1])}.upsample", key)
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", key)
    key = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    if "mid_block.attentions.0" in key:
        key = _renamed(key.replace("mid_block.attentions.0", "mid.attn_1"), _VAE_ATTENTION)
    return key


def openclip(state: Tensors) -> Tensors:
    """A CLIP text encoder as OpenCLIP has it: query, key and value in one tensor."""
    tensors = {_renamed(key, _OPENCLIP): value for key, value in state.items() if "_proj." not in key}
    tensors |= {_renamed(key, _OPENCLIP): value for key, value in state.items() if "out_proj" in key}
    tensors["text_projection"] = state["text_projection.weight"].T
    tensors.pop("text_projection.weight", None)
    for key in [key for key in state if ".q_proj." in key]:
        joined = torch.cat([state[key.replace("q_proj", f"{name}_proj")] for name in "qkv"])
        kind = key.rpartition(".")[2]
        tensors[_renamed(key.replace(f"q_proj.{kind}", f"in_proj_{kind}"), _OPENCLIP)] = joined
    return tensors
