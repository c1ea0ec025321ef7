"""The command for a GPU, tried on the CPU with a tiny denoiser."""

import pytest
import torch

from bench.finetune import main
from bench.training.full import BATCHES, full


def test_a_denoiser_alone_is_trained_beside_a_bare_loop() -> None:
    head, *rows = full("tiny", torch.device("cpu"), rounds=1, steps=1)
    assert head.what == "tiny's denoiser in float32, beside a bare loop"
    assert len(rows) == 2 * 2 * len(BATCHES)  # memory is counted on a GPU alone
    apart = [row for row in rows if "losses of 4 steps" in row.what]
    assert len(apart) == 4 and all(row.met for row in apart), apart
    assert [row.what for row in apart if "gradient checkpointing" in row.what] == [row.what for row in apart[2:]]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([], "there is no CUDA device; --geometry tiny --device cpu tries it without"),
        (["--device", "cpu"], "sdxl is too much for a CPU; --geometry tiny tries it there"),
    ],
)
def test_it_says_what_it_needs(
    asked: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["bench.finetune", *asked])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
