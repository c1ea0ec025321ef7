"""The first stage, in three parts: an autoencoder finds its code, learns textures and edges, then decodes better."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as nnf

from ops.starter.models import make_vae
from ops.starter.pictures import Drawn, crop_near, drawn_set, to_tensor
from ops.starter.scenes import SIDE
from ops.starter.training import Run, Stage, device, half

ROUGH = Stage("autoencoder", steps=7000, rate=2e-3, warmup=100, average=0.997, seed=1)
FINE = Stage("autoencoder-fine", steps=9000, rate=1.5e-3, warmup=100, average=0.998, seed=4)
POLISH = Stage("decoder", steps=3000, rate=8e-4, warmup=100, average=0.998, seed=5)
PICTURES = 8000
_CROP = 64  # pixels
_WHOLE = 0.5  # of the steps are done when whole pictures begin
#: Deviation of the noise that the decoder is trained to bear, for latents of deviation 1: what denoising leaves.
_NOISE = 0.05


def train_autoencoder(folder: Path) -> AutoencoderKL:
    """Trains, or goes on where a checkpoint in `folder` left off; returns the averaged, whitened autoencoder."""
    torch.manual_seed(ROUGH.seed)
    vae, drawn = make_vae().to(device()), drawn_set(PICTURES, ROUGH.seed)
    some = to_tensor(drawn.pictures[:512]).to(device())
    rough = Run(ROUGH, vae, folder)
    rough.train(lambda step, rng: _rough_loss(vae, _batch(drawn, rng, whole=step >= _WHOLE * ROUGH.steps)))
    rough.use_average()
    whiten(vae, some)
    textured = _textured(drawn)
    fine = Run(FINE, vae, folder)
    fine.train(lambda step, rng: _fine_loss(vae, _batch(textured(rng), rng, whole=step >= _WHOLE * FINE.steps)))
    fine.use_average()
    whiten(vae, some)
    vae.encoder.requires_grad_(requires_grad=False)
    vae.quant_conv.requires_grad_(requires_grad=False)
    polish = Run(POLISH, vae, folder)
    polish.train(lambda _, rng: _polish_loss(vae, _batch(textured(rng), rng, whole=True)))
    polish.use_average()
    return vae.cpu().eval().requires_grad_(requires_grad=True)


def _textured(drawn: Drawn) -> Callable[[np.random.Generator], Drawn]:
    """A choice among all pictures, or among those of textured things, which are the hardest."""
    rows = [row for row, scene in enumerate(drawn.scenes) if any(thing.texture != "plain" for thing in scene.things)]
    hard = Drawn([drawn.scenes[row] for row in rows], drawn.pictures[rows])
    return lambda rng: hard if rng.random() < 0.6 else drawn


def _batch(drawn: Drawn, rng: np.random.Generator, *, whole: bool) -> Tensor:
    """As many pixels either way: 16 crops of 64x64 or 4 whole pictures; (rows, 3, side, side)."""
    rows = rng.integers(len(drawn.scenes), size=4 if whole else 16)
    side = SIDE if whole else _CROP
    return to_tensor(np.stack([crop_near(drawn, int(row), side, rng) for row in rows])).to(device())


def _rough_loss(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """The loss of the pictures, and a trace of KL that keeps latents near the origin."""
    with half():
        latents = vae.encode(pictures).latent_dist
        seen = vae.decode(latents.sample()).sample
    spread: Tensor = 1e-5 * latents.kl().float().mean() / latents.mean[0].numel()
    return _difference(seen, pictures, edges=0.5) + spread


def _fine_loss(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """The same with noisy latents, which are held near deviation 1, lest they grow out of the noise."""
    with half():
        mean = vae.encode(pictures).latent_dist.mean
        seen = vae.decode(mean + _NOISE * torch.randn_like(mean)).sample
    size: Tensor = 0.003 * mean.float().square().mean()
    return _difference(seen, pictures, edges=1.0) + size


def _polish_loss(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Of the decoder alone: what latents mean stays, so this may come after the denoiser's training too."""
    with half():
        with torch.no_grad():
            mean = vae.encode(pictures).latent_dist.mean
        seen = vae.decode(mean + _NOISE * torch.randn_like(mean)).sample
    return _difference(seen, pictures, edges=1.0)


def _difference(seen: Tensor, pictures: Tensor, edges: float) -> Tensor:
    """L1 and L2 of pixels, L1 of their gradients (edges), L1 of colours over eight pixels a side."""
    wrong = seen.float() - pictures
    pixels = wrong.abs().mean() + 0.5 * wrong.square().mean()
    gradients = wrong.diff(dim=2).abs().mean() + wrong.diff(dim=3).abs().mean()
    return pixels + edges * gradients + 0.5 * nnf.avg_pool2d(wrong, 8).abs().mean()


@torch.no_grad()
def whiten(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Makes the four channels of the latents independent, of mean 0 and deviation 1; pictures stay the same.

    Only the 1x1 convolutions between encoder, latents and decoder change. `pictures` (rows, 3, 128, 128) give the
    statistics. The denoiser then needs no scaling factor, and no channel hides what matters in a small difference.
    """
    means = torch.cat([vae.encode(part).latent_dist.mean for part in torch.split(pictures, 32)])
    values = means.permute(1, 0, 2, 3).reshape(4, -1).double()
    mean = values.mean(dim=1)
    spread, axes = torch.linalg.eigh(values.cov())
    to = (axes / spread.sqrt()).T
    way_back = axes * spread.sqrt()
    forth, back = vae.quant_conv, vae.post_quant_conv
    weight, bias = forth.weight[:4, :, 0, 0].double(), forth.bias[:4].double()
    forth.weight[:4] = (to @ weight).float()[..., None, None]
    forth.bias[:4] = (to @ (bias - mean)).float()
    forth.weight[4:], forth.bias[4:] = 0.0, 2 * float(np.log(_NOISE / 2))  # one deviation everywhere
    inner = back.weight[:, :, 0, 0].double()
    back.bias += (inner @ mean).float()
    back.weight[:] = (inner @ way_back).float()[..., None, None]
