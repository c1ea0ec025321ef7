"""Untrained parts, exported: a folder that the SDXL family loads as it loads any other, with a card of true numbers."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPTokenizer

from darkroom.cli.demo.sheet import contact_sheet
from darkroom.worker.models.tiny_tokenizer import write_tokenizer
from ops.starter.captions import words
from ops.starter.card import write_card
from ops.starter.curves import plot, read_curve
from ops.starter.denoiser import spread, v_loss
from ops.starter.evaluate import evaluate
from ops.starter.export import export
from ops.starter.models import FIRST, SECOND, make_scheduler, make_unet, make_vae
from ops.starter.painting import Studio
from ops.starter.prompts import held_out_prompts
from ops.starter.reader import Reader, answers, reading_loss
from ops.starter.scenes import Scene, Thing, draw_lot

LIMIT = 24_000_000  # bytes that the repository gives the model


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, words())
    torch.manual_seed(0)
    return Reader(CLIPTokenizer.from_pretrained(folder, local_files_only=True))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, reader: Reader) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    export(make_vae().eval(), Reader(reader.tokenizer), make_unet(), folder, rows=8)
    return folder


@pytest.fixture(scope="module")
def studio(model: Path) -> Studio:
    return Studio(model)


def test_the_model_is_small_enough_to_ship(model: Path) -> None:
    assert sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) < LIMIT


def test_the_family_loads_it_and_paints(studio: Studio) -> None:
    asked = held_out_prompts(1)[0]
    one, again = (studio(asked.prompt, asked.seed, num_inference_steps=2) for _ in range(2))
    assert one.shape == (128, 128, 3)
    assert np.array_equal(one, again)


def test_preview_factors_are_of_the_right_form(model: Path) -> None:
    preview = json.loads((model / "preview.json").read_text())
    assert np.shape(preview["factors"]) == (4, 3)
    assert np.shape(preview["offset"]) == (3,)


def test_captions_that_are_left_out_are_as_the_pipelines_zeros() -> None:
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Listener(torch.nn.Module):
        def forward(self, noisy: torch.Tensor, _: object, states: torch.Tensor, added_cond_kwargs: Any) -> Any:
            asked.append((states, added_cond_kwargs["text_embeds"]))
            return SimpleNamespace(sample=noisy)

    torch.manual_seed(0)
    said = torch.ones(400, 77, FIRST + SECOND), torch.ones(400, SECOND)
    v_loss(Listener(), torch.randn(400, 4, 16, 16), *said, make_scheduler().alphas_cumprod, spread(400, 2.0, 1000))
    ((states, pooled),) = asked
    silent = (pooled == 0).all(1)
    assert torch.equal(silent, (states == 0).all((1, 2)))
    assert 20 < int(silent.sum()) < 60


def test_the_encoders_learn_from_captions_and_the_denoiser_from_latents(reader: Reader) -> None:
    rng = np.random.default_rng(0)
    scenes = [draw_lot(rng, pair=pair) for pair in (False, True)]
    reading_loss(reader, scenes, rng).backward()
    unet = make_unet()
    with torch.no_grad():
        heard = reader.read(["a red star"] * 4)
    v_loss(unet, torch.randn(4, 4, 16, 16), *heard, make_scheduler().alphas_cumprod, spread(4, 1.2, 1000)).backward()
    for part in (reader.first, reader.second, unet):
        assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in part.parameters())


def test_times_are_the_noisier_the_more_often() -> None:
    torch.manual_seed(0)
    for slope, share in ((1.0, 0.3), (1.2, 0.236), (2.0, 0.09)):
        times = spread(20_000, slope, 1000)
        assert int(times.min()) >= 0 and int(times.max()) < 1000
        assert abs((times < 300).float().mean().item() - share) < 0.01


def test_what_is_exported_names_no_path_of_this_machine(model: Path) -> None:
    for path in model.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o044 == 0o044, path
        if path.suffix == ".json":
            assert "_name_or_path" not in path.read_text(), path


def test_a_pair_is_answered_in_the_order_of_the_picture() -> None:
    left, right = Thing("star", "red"), Thing("ring", "blue", "dotted")
    found = answers(Scene((left, right), "white", relation="above"))
    turned = answers(Scene((right, left), "white", relation="above"))
    assert found[3:5] == [one - 1 for one in turned[7:9]]
    assert found[2] == turned[2]
    assert answers(Scene((left,), "white"))[7:] == [0, 0, 0, 0]


def test_the_card_tells_what_was_measured(model: Path, studio: Studio, tmp_path: Path) -> None:
    curve = tmp_path / "denoiser.csv"
    rows = ["step,seconds,loss,rate", "25,60,0.5,0.1", "50,120,0.4,0.1", "50,130,0.25,0.1"]
    curve.write_text("\n".join(rows) + "\n")
    tallies = evaluate(lambda asked: studio(asked.prompt, asked.seed, num_inference_steps=1), held_out_prompts(2))
    write_card(model, tallies, [read_curve(curve)])
    card = (model / "README.md").read_text()
    assert "| denoiser | 50 | 2 | 0.3750 |" in card
    assert "| background and colour |" in card
    assert "unet/diffusion_pytorch_model.safetensors" in card


def test_curves_and_sheets_are_pictures(tmp_path: Path) -> None:
    curve = tmp_path / "one.csv"
    curve.write_text("step,seconds,loss,rate\n25,60,0.5,0.1\n50,120,0.4,0.1\n")
    assert plot([read_curve(curve)] * 2).size == (960, 300)
    cells = [(Image.new("RGB", (128, 128)), "a prompt of many words " * 9)] * 7
    assert contact_sheet(cells, columns=6).size == (6 * 140 + 12, 2 * (140 + 28) + 12)
