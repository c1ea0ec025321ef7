"""All stages in order; each one that was done is not done again."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTokenizer

from darkroom.worker.models.tiny_tokenizer import write_tokenizer
from ops.starter.autoencoder import train_autoencoder
from ops.starter.captions import words
from ops.starter.denoiser import train_denoiser, train_detail
from ops.starter.latents import encoded_set
from ops.starter.reader import Reader, train_reader

LATENTS = 24_000
_LATENTS_SEED, _DETAIL_SEED = 7, 8


def make_autoencoder(folder: Path) -> AutoencoderKL:
    """The trained autoencoder, from `folder` if it is there."""
    done = folder / "vae"
    if not done.exists():
        train_autoencoder(folder).save_pretrained(done)
    return AutoencoderKL.from_pretrained(done, local_files_only=True).eval()


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer, written anew."""
    write_tokenizer(folder / "tokenizer", words())
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    return tokenizer


def make_painter(folder: Path) -> tuple[Reader, UNet2DConditionModel]:
    """Text encoders and denoiser, trained one after the other."""
    torch.manual_seed(0)
    vae = make_autoencoder(folder)
    scenes, latents = encoded_set(vae, LATENTS, _LATENTS_SEED, folder)
    reader = train_reader(scenes, make_tokenizer(folder), folder)
    unet = train_denoiser(scenes, latents, reader, folder)
    return reader, train_detail(unet, *encoded_set(vae, LATENTS, _DETAIL_SEED, folder), reader, folder)
