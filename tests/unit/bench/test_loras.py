"""What LoRAs cost, in small: that all of it runs, and compares what it says."""

from dataclasses import replace
from pathlib import Path

from bench.loras.few_steps import few_steps
from bench.loras.files import everything, transformers
from bench.loras.fresh import fresh
from bench.loras.throughput import SORTS, throughput


def test_pictures_with_loras_are_held_against_pictures_without(tmp_path: Path) -> None:
    sorts = [replace(SORTS[0], each=2, loras=2)]
    rows = throughput(tmp_path, 1, sorts, num_inference_steps=1, width=64, height=64)
    assert [row.mark for row in rows] == [">= 0.88", ">= 0.99", "yes"]
    assert "2 LoRAs" in rows[0].what
    assert rows[-1].value == "yes"


def test_few_steps_are_held_against_many() -> None:
    row = few_steps(1, width=64, height=64)
    assert float(row.value) > 1
    assert row.mark == ">= 3"


def test_a_fresh_lora_is_held_against_one_that_is_there(tmp_path: Path) -> None:
    (row,) = fresh(tmp_path, 1, (("small", "rank 8", transformers, 8),))
    assert "0.5 MB" in row.what
    assert row.value.endswith("ms")


def test_the_layers_that_files_are_for() -> None:
    residual, linear = "up_blocks.0.resnets.1.conv1", "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    assert [(everything(path), transformers(path)) for path in (residual, linear)] == [(True, False), (True, True)]
