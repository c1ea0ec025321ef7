"""The parts of a finished model, for training that goes on from it."""

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ops.starter.reader import Reader


def shipped_unet(model: Path) -> UNet2DConditionModel:
    """Its denoiser, frozen, in float32."""
    return _frozen(UNet2DConditionModel, model / "unet")


def shipped_vae(model: Path) -> AutoencoderKL:
    """Its autoencoder, frozen, in float32."""
    return _frozen(AutoencoderKL, model / "vae")


def shipped_reader(model: Path) -> Reader:
    """Its text encoders, frozen, in float32; the questions of their training are not kept with a model."""
    reader = Reader(CLIPTokenizer.from_pretrained(model / "tokenizer", local_files_only=True))
    reader.first = _frozen(CLIPTextModel, model / "text_encoder")
    reader.second = _frozen(CLIPTextModelWithProjection, model / "text_encoder_2")
    return reader.requires_grad_(requires_grad=False).eval()


def _frozen(kind: type[Any], folder: Path) -> Any:
    return kind.from_pretrained(folder, local_files_only=True).float().requires_grad_(requires_grad=False).eval()
