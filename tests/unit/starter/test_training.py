"""A stage that was interrupted ends with the weights of one that was not; the parts fit SDXL's path."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ops.starter.autoencoder import whiten
from ops.starter.models import make_scheduler, make_vae
from ops.starter.training import Run, Stage

STAGE = Stage("toy", steps=30, rate=0.05, warmup=5, average=0.9)


def _run(folder: Path) -> Run:
    torch.manual_seed(0)
    return Run(STAGE, nn.Linear(3, 1), folder)


def _train(run: Run, until: int | None = None) -> None:
    def loss(step: int, rng: np.random.Generator) -> Tensor:
        values = torch.from_numpy(rng.normal(size=(8, 3))).float() + 0.1 * torch.randn(8, 3)
        wrong: Tensor = run.module(values)[:, 0] - values.sum(1)
        return wrong.square().mean()

    run.train(loss, until=until)


def test_an_interrupted_stage_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole")
    _train(whole)
    _train(_run(tmp_path / "parts"), until=13)
    rest = _run(tmp_path / "parts")
    assert rest.step == 13
    _train(rest)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, rest.module.state_dict()[name])
        assert torch.equal(whole.average[name], rest.average[name])


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    _train(_run(tmp_path))
    again = _run(tmp_path)
    before = again.module.weight.clone()
    _train(again)
    assert torch.equal(before, again.module.weight)


def test_the_curve_has_a_row_for_the_last_step_and_falls(tmp_path: Path) -> None:
    _train(_run(tmp_path), until=25)
    _train(_run(tmp_path))
    with _run(tmp_path).curve.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [25, 30]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])


def test_a_broken_write_leaves_the_checkpoint_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _train(_run(tmp_path), until=10)
    run = _run(tmp_path)

    def torn(_state: object, path: Path) -> None:
        path.write_bytes(b"half a checkpoint")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", torn)
        with pytest.raises(OSError, match="no space"):
            _train(run, until=20)
    assert _run(tmp_path).step == 10


def test_the_rate_rises_and_falls() -> None:
    rates = [STAGE.rate_at(step) for step in range(STAGE.steps)]
    assert max(rates) == pytest.approx(STAGE.rate)
    assert rates[0] < rates[4]
    assert rates[-1] < 0.05 * STAGE.rate


def test_whitening_changes_the_latents_and_no_picture() -> None:
    torch.manual_seed(0)
    vae = make_vae().eval()
    pictures = torch.rand(6, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        before = vae.decode(vae.encode(pictures).latent_dist.mean).sample
        whiten(vae, pictures)
        latents = vae.encode(pictures).latent_dist.mean
        after = vae.decode(latents).sample
    assert torch.allclose(before, after, atol=2e-3)
    values = latents.permute(1, 0, 2, 3).reshape(4, -1)
    assert torch.allclose(values.cov(), torch.eye(4), atol=1e-2)
    assert values.mean(1).abs().max() < 1e-2


def test_almost_nothing_of_a_picture_is_left_at_the_last_step() -> None:
    signal = make_scheduler().alphas_cumprod[-1].sqrt()
    assert 0 < signal < 0.02
