"""The trained adapter as files: float16, in the layout of the public ones, with its image encoder."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from ops.starter.export import as_anybodys, write_json
from ops.starter.style.models import LAYOUT, MEAN, STD, Adapter, make_encoder
from ops.starter.style.pictures import SEEN
from ops.starter.style.training import STAGES, train_style

STYLE, FILE, ENCODER_FOLDER = "style", "ip_adapter.safetensors", "image_encoder"


def make_style(model: Path, folder: Path) -> None:
    """Trains the adapter of the exported `model` and puts it there; checkpoints are kept in `folder`."""
    train_style(model, folder)
    export_style(folder, model)


def export_style(folder: Path, model: Path) -> None:
    """Writes the newest checkpoint in `folder` into the exported `model`, with its loss curves."""
    unet = UNet2DConditionModel.from_pretrained(model / "unet", dtype=torch.float32, local_files_only=True)
    adapter = Adapter(make_encoder(), unet)
    kept = torch.load(folder / f"{STAGES[-1].name}.pt", map_location="cpu", weights_only=True)
    adapter.load_state_dict(kept["average"])
    export_adapter(adapter, unet, model / STYLE)
    for stage in STAGES:
        shutil.copy(folder / f"{stage.name}.csv", model / "training")


def export_adapter(adapter: Adapter, unet: Any, folder: Path) -> None:
    """Writes the adapter of this denoiser into `folder`; its encoder is float16 afterwards."""
    encoder = folder / ENCODER_FOLDER
    adapter.encoder.half().save_pretrained(encoder, safe_serialization=True)
    as_anybodys(encoder)
    sides = {"size": {"shortest_edge": SEEN}, "crop_size": {"height": SEEN, "width": SEEN}}
    colours = {"image_mean": MEAN, "image_std": STD}
    write_json(encoder / "preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor", **sides, **colours})
    blocks = {"style": dict.fromkeys(_style_blocks(unet), 1.0), "layout": {LAYOUT: 1.0}}
    metadata = {"darkroom": json.dumps(blocks)}  # one entry: several come in any order, and the digest with it
    save_file(_public_names(adapter), folder / FILE, metadata=metadata)
    (folder / FILE).chmod(0o644)


def _style_blocks(unet: Any) -> list[str]:
    """Attentions whose layers are the style's: all but the layout's."""
    names = [name.partition("transformer_blocks")[0] for name in unet.attn_processors]
    return [name for name in dict.fromkeys(names) if name != LAYOUT]


def _public_names(adapter: Adapter) -> dict[str, torch.Tensor]:
    """As https://huggingface.co/h94/IP-Adapter has them."""
    parts = adapter.projection.state_dict().items()
    named = {f"image_proj.{name.replace('image_embeds', 'proj')}": tensor for name, tensor in parts}
    for number, (key, value) in enumerate(zip(adapter.keys, adapter.values, strict=True)):
        named |= {
            f"ip_adapter.{2 * number + 1}.to_k_ip.weight": key,
            f"ip_adapter.{2 * number + 1}.to_v_ip.weight": value,
        }
    return {name: tensor.detach().half().contiguous() for name, tensor in named.items()}
