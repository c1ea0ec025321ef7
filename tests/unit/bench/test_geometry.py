"""Models with random weights, in small: what writes the large ones, and what counts their work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.serving.geometry import SD15, SDXL, Geometry, write_random
from bench.serving.model import Wish
from bench.serving.prepare import prepare
from bench.serving.work import decoder_tflop, denoiser_calls, denoiser_tflop, picture_tflop
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings

SMALL_TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
              "projection_dim": 32}  # fmt: skip


def shrunk(geometry: Geometry) -> Geometry:
    """The same structure, narrow."""
    width = 32 * len(geometry.texts)
    unet: dict[str, Any] = {"cross_attention_dim": width, "norm_num_groups": 8, "attention_head_dim": 4}
    if geometry.family == "sdxl":
        unet |= {"transformer_layers_per_block": 1, "addition_time_embed_dim": 8,
                 "projection_class_embeddings_input_dim": 32 + 48}  # fmt: skip
    levels = len(geometry.unet["block_out_channels"])
    unet["block_out_channels"] = (16,) * levels
    vae = {"block_out_channels": (8,) * 4, "norm_num_groups": 4}
    return replace(
        geometry,
        unet={**geometry.unet, **unet},
        vae={**geometry.vae, **vae},
        texts=tuple({**text, **SMALL_TEXT} for text in geometry.texts),
    )


@pytest.mark.parametrize(("name", "geometry"), [("random-sdxl", SDXL), ("random-sd", SD15)])
def test_a_random_model_is_written_whole_and_the_worker_loads_it(
    name: str, geometry: Geometry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_random(shrunk(geometry), tmp_path / name, "cpu", torch.bfloat16)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    model = prepare(Wish(name=name, cache=tmp_path, device="cpu", threads=1))
    settings = WorkerSettings(models_dir=tmp_path / "models", device="cpu")
    loaded = load_model(model.entry, choose_placement(settings), settings)
    assert set(loaded.family.modules) <= loaded.components.keys()
    calls = 31 if geometry.family == "sd" else 30  # PNDM's first step takes two
    assert denoiser_calls(model.folder, 30) == calls
    whole = 2 * calls * denoiser_tflop(model.folder, 64, 64) + decoder_tflop(model.folder, 64, 64)
    assert picture_tflop(model.folder, 64, 64, 30) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("geometry", "row"), [(SD15, 0.803), pytest.param(SDXL, 1.589, marks=pytest.mark.thorough)], ids=["sd", "sdxl"]
)
def test_the_work_of_the_full_size_is_that_of_the_published_models(
    geometry: Geometry, row: float, tmp_path: Path
) -> None:
    """1.59 TFLOP a row at 512 pixels, and 0.80; the VAE's decoder 2.5."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**geometry.unet), AutoencoderKL(**geometry.vae)
    unet.save_config(tmp_path / "unet")
    vae.save_config(tmp_path / "vae")
    assert denoiser_tflop(tmp_path, 512, 512) == pytest.approx(row, rel=1e-3)
    assert decoder_tflop(tmp_path, 512, 512) == pytest.approx(2.5145, rel=1e-3)
