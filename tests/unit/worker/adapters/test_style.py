"""Styles beside diffusers' own IP-Adapter, and rows of one call with different ones."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from darkroom.tasks.catalogue import Family
from darkroom.worker.adapters.attention import cross_attention
from darkroom.worker.adapters.image_encoder import Preprocessor
from darkroom.worker.adapters.projection import Form
from darkroom.worker.adapters.style import StyleAdapter, layer_shares, load_style
from darkroom.worker.adapters.style_file import Blocks
from darkroom.worker.adapters.tiny_style import make_tiny_style
from darkroom.worker.caches import Cache
from darkroom.worker.errors import AdapterIncompatible
from darkroom.worker.models.device import Placement
from tests.unit.worker.conftest import Models, photo

FAMILIES: tuple[Family, ...] = ("sdxl", "sd")
PIPELINES = {"sdxl": StableDiffusionXLPipeline, "sd": StableDiffusionPipeline}
#: Of the tiny denoisers, which have one attention less a block than the real ones.
BLOCKS = Blocks(style={"up_blocks.": 1.0, "mid_block.": 0.5}, layout={"down_blocks.2.": 1.0})


@dataclass(frozen=True)
class Styled:
    """A denoiser of one's own with a style's processors, in float64, and the files of the style."""

    unet: Any
    adapter: StyleAdapter
    path: Path
    encoder: Path

    def __call__(self, inputs: dict[str, Any], style: tuple[Tensor, Tensor] | None = None) -> Tensor:
        given = self.adapter.holder.given(*style) if style else nullcontext()
        with torch.no_grad(), given:
            found: Tensor = self.unet(**inputs).sample
        assert self.adapter.holder.style is None
        return found


Make = Callable[..., Styled]


@pytest.fixture(scope="module")
def styled(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Each made once. Read only."""
    made: dict[tuple[Any, ...], Styled] = {}

    def make(family: Family, form: Form = "plain", dtype: torch.dtype = torch.float64) -> Styled:
        if (family, form, dtype) not in made:
            unet = deepcopy(models(family).components["unet"]).to(dtype)
            path, encoder = make_tiny_style(unet, tmp_path_factory.mktemp("style"), form)
            tell_blocks(path)
            placement = Placement(torch.device("cpu"), dtype, "full", 1)
            adapter = load_style(path, encoder, family, unet, placement)
            made[family, form, dtype] = Styled(unet, adapter, path, encoder)
        return made[family, form, dtype]

    return make


def tell_blocks(path: Path) -> None:
    said = json.dumps({"style": dict(BLOCKS.style), "layout": dict(BLOCKS.layout)})
    save_file(load_file(path), path, metadata={"darkroom": said})


def inputs(unet: Any, rows: int, side: int = 4) -> dict[str, Any]:
    """Of a call in the denoiser's dtype."""
    draw, dtype, config = torch.Generator().manual_seed(0), unet.dtype, unet.config
    sizes = torch.tensor([[32, 32, 0, 0, 32, 32]]).repeat(rows, 1)
    pooled = torch.randn(rows, 48, generator=draw, dtype=torch.float64).to(dtype)
    return {
        "sample": torch.randn(rows, 4, side, side, generator=draw, dtype=torch.float64).to(dtype),
        "timestep": torch.arange(rows) * 100 + 100,
        "encoder_hidden_states": torch.randn(
            rows, 77, config.cross_attention_dim, generator=draw, dtype=torch.float64
        ).to(dtype),
        "added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes} if config.addition_embed_type else None,
    }


def row_of(given: dict[str, Any], row: int) -> dict[str, Any]:
    """The call of one row alone."""
    added = given["added_cond_kwargs"]
    alone = {name: value[row : row + 1] for name, value in given.items() if isinstance(value, Tensor)}
    return alone | {"added_cond_kwargs": added and {name: value[row : row + 1] for name, value in added.items()}}


@pytest.mark.parametrize("form", ["plain", "plus"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_that_of_diffusers_own_ip_adapter(
    models: Models, styled: Make, family: Family, form: Form
) -> None:
    ours, picture = styled(family, form), photo(1, 50, 41)
    parts = {name: deepcopy(part) for name, part in models(family).components.items()}
    more = {"safety_checker": None, "feature_extractor": None} if family == "sd" else {}
    pipeline = PIPELINES[family](**parts, **more, **({"requires_safety_checker": False} if more else {}))
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(dtype=torch.float64)
    encoder = CLIPVisionModelWithProjection.from_pretrained(ours.encoder, dtype=torch.float64)
    asked = {
        "prompt": "a fox",
        "negative_prompt": "fog",
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "width": 32,
        "height": 32,
        "output_type": "latent",
    }
    pipeline.register_modules(
        unet=ours.unet, image_encoder=encoder, feature_extractor=CLIPImageProcessor(size=32, crop_size=32)
    )
    tokens = torch.cat([ours.adapter.nothing(), ours.adapter.embed([picture], [1.0])])
    with ours.adapter.holder.given(tokens, ours.adapter.scales(0.75, 0.5).expand(2, -1)):
        found = pipeline(**asked, generator=torch.Generator().manual_seed(1)).images

    pipeline.register_modules(unet=parts["unet"].to(torch.float64))
    pipeline.load_ip_adapter(str(ours.path.parent), subfolder="", weight_name=ours.path.name)
    pipeline.set_ip_adapter_scale({"up": 0.75, "mid": 0.375, "down": {"block_2": 0.5}})
    wanted = pipeline(**asked, ip_adapter_image=picture, generator=torch.Generator().manual_seed(1)).images
    pipeline.set_ip_adapter_scale(0.0)
    plain = pipeline(**asked, ip_adapter_image=picture, generator=torch.Generator().manual_seed(1)).images

    assert (found - wanted).abs().max() < 1e-11
    assert (plain - wanted).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_style_the_bits_are_those_of_the_denoiser_itself(
    models: Models, styled: Make, family: Family
) -> None:
    ours, plain = styled(family, dtype=torch.float32), models(family).components["unet"]
    assert isinstance(next(iter(cross_attention(plain).values())).processor, AttnProcessor2_0)
    given = inputs(plain, rows=2)
    with torch.no_grad():
        wanted = plain(**given).sample
    assert torch.equal(ours(given), wanted)
    assert list(ours.unet.state_dict()) == list(plain.state_dict())


def test_rows_with_different_styles_are_as_alone(styled: Make) -> None:
    ours = styled("sdxl")
    given = inputs(ours.unet, rows=4)
    tokens = [ours.adapter.embed([photo(seed)], [1.0]) for seed in range(3)]
    scales = [ours.adapter.scales(*asked) for asked in ((1.0, 0.0), (0.5, 1.0), (0.0, 0.75))]
    tokens, scales = [*tokens, ours.adapter.nothing()], [*scales, torch.zeros(1, ours.adapter.layers)]
    found = ours(given, (torch.cat(tokens), torch.cat(scales)))
    for row in range(3):
        alone = ours(row_of(given, row), (tokens[row], scales[row]))
        assert (found[row] - alone[0]).abs().max() < 1e-9
        assert (alone - ours(row_of(given, row))).abs().max() > 1e-3
    assert torch.equal(found[3], ours(given)[3])  # its scales are 0


def test_other_sizes_and_fused_projections(models: Models, styled: Make) -> None:
    ours = styled("sdxl")
    fused = deepcopy(models("sdxl").components["unet"]).to(torch.float64)
    fused.fuse_qkv_projections()
    placement = Placement(torch.device("cpu"), torch.float64, "full", 1)
    other = Styled(fused, load_style(ours.path, ours.encoder, "sdxl", fused, placement), ours.path, ours.encoder)
    given = inputs(fused, rows=1, side=6)
    style = ours.adapter.embed([photo()], [1.0]), ours.adapter.scales(1.0, 1.0)
    assert (other(given, style) - ours(given, style)).abs().max() < 1e-9


def test_a_block_compiles_whole_with_styles_and_without(styled: Make) -> None:
    ours, made = styled("sdxl", dtype=torch.float32), []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        made.append(graph)
        return graph.forward

    blocks = [block for block in ours.unet.modules() if type(block).__name__ == "BasicTransformerBlock"]
    wide = [block for block in blocks if block.norm1.normalized_shape == blocks[-1].norm1.normalized_shape]
    given = torch.randn(2, 16, wide[0].norm1.normalized_shape[0])
    states = torch.randn(2, 77, ours.unet.config.cross_attention_dim)
    torch._dynamo.reset()
    compiled = [torch.compile(block, fullgraph=True, dynamic=False, backend=count) for block in wide[:3]]
    for style in (None, (torch.randn(2, 4, states.shape[2]), torch.rand(2, ours.adapter.layers))):
        before = len(made)
        with torch.no_grad(), ours.adapter.holder.given(*style) if style else nullcontext():
            for block, plain in zip(compiled, wide, strict=False):
                assert torch.equal(
                    block(given, encoder_hidden_states=states), plain(given, encoder_hidden_states=states)
                )
        assert len(made) == before + 1, "the layer's number must not be a constant of its code"
    torch._dynamo.reset()


def test_several_pictures_are_one_weighted_mean(styled: Make) -> None:
    adapter = styled("sd").adapter
    one, other = photo(1), photo(2)
    alone = adapter.embed([one], [0.3])
    assert torch.equal(alone, adapter.embed([one], [1.0]))
    assert torch.allclose(adapter.embed([one, one], [1.0, 3.0]), alone)
    mixed = adapter.embed([one, other], [3.0, 1.0])
    assert torch.allclose(mixed, adapter.embed([one, other], [0.75, 0.25]))
    assert (mixed - alone).abs().max() > 1e-3
    with pytest.raises(ValueError, match="sum above 0"):
        adapter.embed([one, other], [0.0, 0.0])


def test_a_picture_that_was_seen_is_not_encoded_again(styled: Make) -> None:
    adapter, kept = styled("sd").adapter, Cache[Tensor]()
    first = adapter.embed([photo(1)], [1.0], kept)
    assert torch.equal(adapter.embed([photo(1), photo(1)], [1.0, 1.0], kept), first)
    assert (kept.hits, kept.misses) == (2, 1)
    adapter.embed([photo(1).rotate(90)], [1.0], kept)
    assert kept.misses == 2


@pytest.mark.parametrize("size", [(32, 32), (50, 41), (33, 97), (224, 225)])
def test_the_encoder_is_shown_what_clips_own_processor_shows(size: tuple[int, int]) -> None:
    picture = photo(3, *size)
    wanted = CLIPImageProcessor(size=32, crop_size=32)(picture, return_tensors="pt").pixel_values
    assert torch.equal(Preprocessor(32)(picture), wanted)


def test_of_a_line_of_pixels_the_middle_is_shown() -> None:
    line = Image.new("L", (60_000, 1))
    line.putpixel((30_000, 0), 255)
    shown = Preprocessor(32)(line)
    assert shown.shape == (1, 3, 32, 32)
    assert shown.max() > shown.min()


def test_style_and_layout_are_layers_of_their_own(styled: Make) -> None:
    ours = styled("sdxl")
    names = list(cross_attention(ours.unet))
    found = ours.adapter.scales(0.5, 0.25)[0].tolist()
    for name, scale in zip(names, found, strict=True):
        wanted = 0.5 if name.startswith("up_") else 0.25 if name.startswith("mid_") else 0.0
        assert scale == (0.25 if name.startswith("down_blocks.2.") else wanted), name
    assert ours.adapter.tokens == 4


@pytest.mark.parametrize(
    ("family", "style", "layout"),
    [
        ("sdxl", 10, 10),
        ("sd", 2 + 2 + 1 + 3 + 3, 2),
    ],
)
def test_the_layers_of_the_real_families(family: Family, style: int, layout: int) -> None:
    unet = full_denoiser(family)
    shares = layer_shares(family, unet)
    assert [int((row != 0).sum()) for row in shares] == [style, layout]
    assert shares.shape[1] == (70 if family == "sdxl" else 16)
    if family == "sd":
        assert shares[1].sum() == 1.25
    with pytest.raises(AdapterIncompatible, match="none of its layers carries a style"):
        layer_shares(family, unet, Blocks(style={"up_blocks.9.": 1.0}, layout={}))


def full_denoiser(family: Family) -> Any:
    """As many layers as the real one, narrow, without memory."""
    from diffusers import UNet2DConditionModel

    down, up = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    more: dict[str, Any] = {}
    if family == "sdxl":
        down, up = ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2], [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"]
        more = {"transformer_layers_per_block": (1, 2, 10)}
    with torch.device("meta"):
        return UNet2DConditionModel(
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            block_out_channels=(32,) * len(down),
            cross_attention_dim=16,
            attention_head_dim=4,
            **more,
        )


def test_a_denoiser_of_another_make_takes_no_style(styled: Make) -> None:
    unet = deepcopy(styled("sd").unet)
    next(iter(cross_attention(unet).values())).residual_connection = True
    with pytest.raises(AdapterIncompatible, match="takes a style"):
        cross_attention(unet)


def test_half_precision_stays(styled: Make) -> None:
    ours = styled("sd", dtype=torch.bfloat16)
    tokens = ours.adapter.embed([photo()], [1.0])
    assert tokens.dtype == torch.bfloat16
    given = inputs(ours.unet, rows=1)
    found = ours(given, (tokens, ours.adapter.scales(0.3, 0.3)))
    assert found.dtype == torch.bfloat16
    exact = styled("sd", dtype=torch.float64)
    wanted = exact(
        {**given, "sample": given["sample"].double(), "encoder_hidden_states": given["encoder_hidden_states"].double()},
        (tokens.double(), exact.adapter.scales(0.3, 0.3)),
    )
    assert (found.double() - wanted).abs().max() < 0.1
