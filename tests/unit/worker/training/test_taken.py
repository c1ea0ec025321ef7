"""What a piece of work takes, as this system tells it."""

import sys

import pytest
import torch

from darkroom.worker.training.taken import memory_in_use, take

HOST = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process had at its most")
def test_the_peak_is_that_of_the_work_alone() -> None:
    def work(megabytes: int) -> None:
        torch.ones(megabytes * 2**18).sum()

    before = memory_in_use(HOST)
    large, small = take(HOST, lambda: work(400)), take(HOST, lambda: work(4))
    assert before and large.peak and small.peak
    assert large.peak - before > 300 * 2**20 > small.peak - before
    assert large.seconds > 0


def test_what_goes_wrong_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        take(HOST, lambda: 1 // 0)
