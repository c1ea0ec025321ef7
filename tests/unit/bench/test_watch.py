"""What is looked at while a load runs."""

import os
from pathlib import Path

import pytest

from bench.serving.machine import gpu_name, this_machine
from bench.serving.watch import Watch


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in nvidia-smi's place that answers as it does."""
    program = tmp_path / "nvidia-smi"
    answers = (
        f'--query-gpu=name) echo "NVIDIA Test";; --query-gpu=*) echo 40;; *) echo "{os.getpid()}, 2048"; echo "1, 9";;'
    )
    program.write_text(f'#!/bin/sh\ncase "$1" in {answers} esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_memory_of_this_process_is_seen_and_no_gpu() -> None:
    with Watch(os.getpid(), gpu=False) as watch:
        pass
    assert watch.rss > 10
    assert (watch.busy, watch.gpu_memory) == (None, None)


@pytest.mark.usefixtures("card")
def test_the_card_is_asked_for_its_name_and_use() -> None:
    with Watch(os.getpid(), gpu=True) as watch:
        pass
    assert (watch.busy, watch.gpu_memory) == (0.4, 2048)
    assert gpu_name() == this_machine().gpu == "NVIDIA Test"
