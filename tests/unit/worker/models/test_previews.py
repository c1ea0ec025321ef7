"""Previews: small, cheap, of the right colours."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.tasks.catalogue import Family
from darkroom.worker.batching.engine import Engine
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.previews import MAX_BYTES, MAX_SIDE, preview_jpeg
from tests.unit.worker.conftest import FAMILIES, Generators, Models


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image


def mean_colour(image: Image.Image) -> list[int]:
    return [int(value) for value in np.asarray(image).reshape(-1, 3).mean(0).round()]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (64, 96), (128, 128), (256, 64)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 80.0])
def test_even_pure_noise_stays_small(
    generators: Generators, family: Family, size: tuple[int, int], scale: float
) -> None:
    latents = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(0)) * scale
    data = generators(family).preview(latents)
    image = opened(data)
    assert len(data) <= MAX_BYTES
    assert max(image.size) <= MAX_SIDE
    assert image.width * size[0] == pytest.approx(image.height * size[1], rel=0.05)


def test_the_same_latents_give_the_same_bytes(generators: Generators) -> None:
    latents = torch.randn(1, 4, 16, 16)
    assert generators("sdxl").preview(latents) == generators("sdxl").preview(latents.clone())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_of_no_numbers_do_no_harm(generators: Generators, value: float) -> None:
    assert opened(generators("sd").preview(torch.full((1, 4, 8, 8), value))).size == (32, 32)


def test_half_precision_latents_have_previews(generators: Generators) -> None:
    assert opened(generators("sd").preview(torch.randn(1, 4, 8, 8).to(torch.bfloat16)))


def test_a_preview_asks_no_model(models: Models) -> None:
    engine = Engine(threads=1)
    generator = Generator(models("sdxl"), engine)
    engine.close()
    assert generator.preview(torch.zeros(1, 4, 8, 8))


def test_playgrounds_latents_are_read_by_their_statistics(models: Models) -> None:
    """The same picture in SDXL's scaled space and in Playground's normalised one has the same preview."""
    raw = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.4 / 0.13025
    config = models("playground").components["vae"].config
    mean, std = (torch.tensor(values).view(1, 4, 1, 1) for values in (config.latents_mean, config.latents_std))
    normalised = (raw - mean) * config.scaling_factor / std
    ours = preview_jpeg(normalised, "playground", config)
    theirs = preview_jpeg(raw * 0.13025, "sdxl", models("sdxl").components["vae"].config)
    apart = np.asarray(opened(ours)).astype(int) - np.asarray(opened(theirs)).astype(int)
    assert abs(apart).max() <= 2


@pytest.mark.parametrize(("family", "grey"), [("sdxl", [150, 140, 130]), ("sd", [128, 128, 128])])
def test_zero_latents_are_the_published_middle(models: Models, family: Family, grey: list[int]) -> None:
    data = preview_jpeg(torch.zeros(1, 4, 8, 8), family, models(family).components["vae"].config)
    assert mean_colour(opened(data)) == pytest.approx(grey, abs=2)


def test_the_first_channel_is_lightness(models: Models) -> None:
    for family in ("sd", "sdxl"):
        config = models(family).components["vae"].config
        dark, light = (torch.zeros(1, 4, 8, 8).index_fill(1, torch.tensor([0]), value) for value in (-1.0, 1.0))
        assert mean_colour(opened(preview_jpeg(dark, family, config))) < mean_colour(
            opened(preview_jpeg(light, family, config))
        )
