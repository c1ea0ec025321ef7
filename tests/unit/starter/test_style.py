"""The style adapter's lessons, and its files: untrained, they are read as any IP-Adapter's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from darkroom.worker.adapters.attention import cross_attention, install_style
from darkroom.worker.adapters.style import load_style
from darkroom.worker.models.device import Placement
from ops.starter.captions import shape_caption, words
from ops.starter.drawing import draw
from ops.starter.models import make_scheduler, make_unet
from ops.starter.paints import COLOURS
from ops.starter.scenes import STYLES, TEXTURES, Scene
from ops.starter.style.export import ENCODER_FOLDER, FILE, export_adapter
from ops.starter.style.lessons import Lessons, Plan
from ops.starter.style.models import LAYOUT, Adapter, make_encoder, pixels
from ops.starter.style.pictures import StyleSet, one_palette, palette, repainted, view

PLAN = Plan(palette=0.3, over=0.3, both=0.2, layout=0.2, begun=(0.2, 0.8))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [one_palette(rng, pair=row % 4 == 0) for row in range(40)]


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    torch.manual_seed(0)
    return Adapter(make_encoder(), make_unet())


def test_things_of_a_scene_share_its_palette(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert {(thing.colour, thing.texture) for thing in scene.things} == {palette(scene)[1:3]}


def test_a_repainted_scene_keeps_shapes_and_places(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(1)
    others = [repainted(scene, rng) for scene in scenes]
    for scene, other in zip(scenes, others, strict=True):
        kept = [[(thing.shape, thing.x, thing.y, thing.radius) for thing in one.things] for one in (scene, other)]
        assert kept[0] == kept[1]
        assert other.background != other.things[0].colour
    assert sum(palette(one) == palette(other) for one, other in zip(scenes, others, strict=True)) < 3


def test_a_shapes_caption_tells_nothing_of_the_palette(scenes: list[Scene]) -> None:
    rng, known = np.random.default_rng(2), set(words())
    for scene in scenes:
        said = shape_caption(scene, rng).split()
        assert {thing.shape for thing in scene.things} <= set(said) <= known
        assert not {*COLOURS, *TEXTURES, *STYLES, "background"} & set(said)


class Deaf:
    """A model that hears nothing of a text."""

    def __init__(self, adapter: Adapter) -> None:
        self.noise_left = make_scheduler().alphas_cumprod
        self.unet = make_unet().eval().requires_grad_(requires_grad=False)
        self.holder = install_style(self.unet, list(zip(adapter.keys, adapter.values, strict=True)))

    def heard(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(texts), 77, 224), torch.zeros(len(texts), 128)


@pytest.fixture(scope="module")
def lessons(scenes: list[Scene], adapter: Adapter) -> Lessons:
    rng = np.random.default_rng(3)
    views = np.stack([view(draw(scene, rng)) for scene in scenes])
    target, other = torch.randn(2, len(scenes), 4, 16, 16)
    return Lessons(Deaf(adapter), adapter, StyleSet(scenes, target, other, views, views), PLAN)


def test_the_adapter_learns_and_the_denoiser_does_not(lessons: Lessons, adapter: Adapter) -> None:
    lessons.loss(0, np.random.default_rng(0)).backward()
    for part in (adapter.encoder, adapter.projection, adapter.keys, adapter.values):
        assert all(value.grad is not None for value in part.parameters())
        assert any(value.grad.abs().sum() > 0 for value in part.parameters() if value.grad is not None)


def test_another_palette_shows_through_as_much_as_the_noise_that_is_left(lessons: Lessons) -> None:
    rows = torch.arange(32)
    over = rows >= 16
    torch.manual_seed(1)
    noisy, times, wanted = lessons.noisy(rows, over, np.random.default_rng(4))
    left = make_scheduler().alphas_cumprod[times].view(-1, 1, 1, 1)
    signal, deviation = left.sqrt(), (1 - left).sqrt()
    clean = signal * noisy - deviation * wanted  # what a denoiser that says v means
    assert torch.allclose(clean, lessons.drawn.latents[rows], atol=1e-4)
    noise = deviation * noisy + signal * wanted
    assert noise[~over].std() == pytest.approx(1, abs=0.03)
    assert noise[over].std() > 1.02


def test_it_is_exported_in_the_layout_of_public_files(tmp_path: Path, adapter: Adapter) -> None:
    unet = make_unet().eval()
    export_adapter(adapter, unet, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 2_000_000
    with safe_open(tmp_path / FILE, "pt") as file:
        assert {"image_proj.proj.weight", "image_proj.norm.bias", "ip_adapter.13.to_v_ip.weight"} <= set(file.keys())
    placement = Placement(torch.device("cpu"), torch.float32, "full", 1)
    loaded = load_style(tmp_path / FILE, tmp_path / ENCODER_FOLDER, "sdxl", unet, placement)
    for name, style, layout in zip(
        cross_attention(unet), *loaded.scales(1.0, 0.0), *loaded.scales(0.0, 1.0), strict=True
    ):
        assert (style, layout) == ((0.0, 1.0) if name.startswith(LAYOUT) else (1.0, 0.0))
    picture = draw(one_palette(np.random.default_rng(5)), np.random.default_rng(5))
    seen = adapter.encoder.float()(pixels(view(picture)[None])).image_embeds
    wanted = adapter.projection.float()(seen)
    assert (loaded.embed([Image.fromarray(picture)], [1.0]) - wanted).abs().max() < 0.01
