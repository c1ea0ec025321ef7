"""Drawn pictures as latents: encoded once, then only read."""

import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from ops.starter.drawing import Picture
from ops.starter.pictures import drawn_scene, to_tensor
from ops.starter.scenes import Scene
from ops.starter.training import device, half, say

_BATCH = 48
DrawnScene = Callable[[int, int], tuple[Scene, Picture]]  # from a seed and a row


def encoded_set(
    vae: AutoencoderKL, rows: int, seed: int, folder: Path, drawn_scene: DrawnScene = drawn_scene
) -> tuple[list[Scene], Tensor]:
    """Scenes and their latents (rows, 4, 16, 16) float32; kept in `folder`, and counted on from where that ends."""
    path = folder / f"latents-{seed}-{_fingerprint(vae, seed, drawn_scene):08x}.pt"
    done: Tensor = torch.load(path, weights_only=True) if path.exists() else torch.empty(0, 4, 16, 16)
    scenes = [drawn_scene(seed, row)[0] for row in range(len(done[:rows]))]
    parts = [done[:rows]]
    for start in range(len(scenes), rows, _BATCH):
        drawn = [drawn_scene(seed, row) for row in range(start, min(start + _BATCH, rows))]
        scenes += [scene for scene, _ in drawn]
        parts.append(encode(vae, torch.cat([to_tensor(picture[None]) for _, picture in drawn])))
        if start // _BATCH % 100 == 0:
            say(f"latents: {start} of {rows}")
    latents = torch.cat(parts)
    if len(latents) > len(done):
        torch.save(latents, path)
    return scenes, latents


def _fingerprint(vae: AutoencoderKL, seed: int, drawn_scene: DrawnScene) -> int:
    """Of what the latents follow from, so that none are kept for other scenes or from another autoencoder."""
    some = [drawn_scene(seed, row) for row in range(64)]
    scenes = zlib.crc32(repr([scene for scene, _ in some]).encode())
    pictures = zlib.crc32(b"".join(picture.tobytes() for _, picture in some), scenes)
    return zlib.crc32(vae.quant_conv.weight.detach().numpy().tobytes(), pictures)


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Means (rows, 4, 16, 16) float32 of pictures (rows, 3, 128, 128) in -1…1."""
    with half():
        mean: Tensor = vae.to(device()).encode(pictures.to(device())).latent_dist.mean
    return mean.float().cpu()
