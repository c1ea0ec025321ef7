"""All stages in order; each one that was done is not done again."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from darkroom.worker.tiny_tokenizer import write_tokenizer
from ops.starter.autoencoder import train_autoencoder
from ops.starter.captions import words
from ops.starter.denoiser import Painter, train_denoiser
from ops.starter.latents import encoded_set

LATENTS = 24_000
_LATENTS_SEED = 7


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


def make_painter(folder: Path, part: int) -> Painter:
    """Text encoders and denoiser after part 0 or 1 of their training."""
    torch.manual_seed(0)
    scenes, latents = encoded_set(make_autoencoder(folder), LATENTS, _LATENTS_SEED, folder)
    return train_denoiser(scenes, latents, make_tokenizer(folder), folder, part)
