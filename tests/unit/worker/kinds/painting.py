"""Inpaintings over real tiny models: their inputs as files, and what comes of them."""

import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from darkroom.tasks.catalogue import Family
from darkroom.tasks.requests import Request
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.steps import OnStep
from darkroom.worker.kinds.base import PreparedJob, Sources
from tests.unit.worker.conftest import ask, ignore, photo

IMAGE, MASK = "inputs/default/it.png", "inputs/default/mask.png"


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def spot(size: tuple[int, int], *box: int) -> Image.Image:
    """A mask of one box."""
    mask = Image.new("L", size)
    mask.paste(255, box or (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))  # type: ignore[arg-type]
    return mask


def asked(generator: Generator, mask: bool = True, **fields: Any) -> Request:
    named = {"kind": "inpaint", "image": IMAGE, **({"mask": MASK} if mask else {})}
    return ask(generator, **named, **fields)


def prepared(
    generator: Generator, picture: bytes | Image.Image, mask: bytes | Image.Image | None, **fields: Any
) -> tuple[PreparedJob, Sources]:
    """A job with what was read of its inputs."""
    files = {"image": picture, "mask": mask}
    inputs = {name: one if isinstance(one, bytes) else file_of(one) for name, one in files.items() if one is not None}
    job = generator.prepare(asked(generator, mask is not None, **fields))
    return job, job.kind.read(job, inputs)


def paint(
    generator: Generator,
    picture: bytes | Image.Image,
    mask: bytes | Image.Image | None,
    seed: int = 1,
    *,
    ticket: Ticket | None = None,
    on_step: OnStep = ignore,
    **fields: Any,
) -> Image.Image:
    """One picture, in a job of its own. Solo, unless a ticket says otherwise."""
    job, sources = prepared(generator, picture, mask, **fields)
    return generator.generate(job, seed, sources, on_step, ticket or Ticket(solo=True)).picture


def numbers(image: Image.Image) -> "np.ndarray[Any, np.dtype[np.int64]]":
    return np.asarray(image).astype(np.int64)


def assert_kept(generator: Generator, family: Family, strength: float) -> None:
    """Where nothing is made anew latents end as the VAE's of the picture (its sample is what the seed gives first)."""
    picture, mask, seen = photo(3, 64, 64), spot((64, 64), 0, 0, 16, 16), list[torch.Tensor]()
    paint(generator, picture, mask, 5, strength=strength, num_inference_steps=4, mask_blur=0,
          on_step=lambda _step, _of, latents: seen.append(latents))  # fmt: skip
    vae = generator.model.components["vae"]
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        found = vae.encode(pixels).latent_dist.sample(torch.Generator().manual_seed(5))
    mean, deviation = (torch.tensor(vae.config.get(name) or value).view(-1, 1, 1)
                       for name, value in (("latents_mean", [0.0]), ("latents_std", [1.0])))  # fmt: skip
    wanted = (found - mean) / deviation * vae.config.scaling_factor
    assert (family == "playground") == (vae.config.get("latents_mean") is not None)
    kept = torch.ones(8, 8, dtype=torch.bool)
    kept[:2, :2] = False
    assert torch.allclose(seen[-1][..., kept], wanted[..., kept], atol=1e-4)
    assert not torch.allclose(seen[-1][..., ~kept], wanted[..., ~kept], atol=0.1)
