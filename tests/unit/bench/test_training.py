"""What a training costs, in small: that all of it runs, and compares what it says."""

from bench.training.beside import beside
from bench.training.memory import growth
from bench.training.pace import pace


def test_steps_are_held_against_a_bare_loop() -> None:
    rate, apart = pace(1, 1, each=2)
    assert rate.mark == ">= 0.95"
    assert apart.met, apart.value
    assert "losses of 4 steps" in apart.what


def test_a_picture_is_held_against_one_of_an_idle_worker() -> None:
    latency, share = beside(1, 1, flights=1, num_inference_steps=3, width=64, height=64)
    assert latency.mark == "<= 1.5"
    assert float(latency.value) > 0
    assert 0 <= float(share.value) < 1


def test_the_most_memory_counts_beyond_what_there_was() -> None:
    most = growth(lambda: b"x" * (64 * 2**20))
    assert 60 < most / 2**20 < 80
