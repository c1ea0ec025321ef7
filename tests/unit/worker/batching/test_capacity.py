"""Rows by memory."""

import pytest
import torch

from darkroom.worker.batching.capacity import Capacity, rows_that_fit

MB = 2**20


@pytest.mark.parametrize(
    ("smaller", "larger", "room", "rows"),
    [
        ((1, 300 * MB), (2, 400 * MB), 7_000 * MB, 68),  # 200 once, 100 a row, of 7,000
        ((2, 400 * MB), (8, 1000 * MB), 700 * MB, 5),  # no room for what has just run
        ((1, 300 * MB), (2, 400 * MB), 70 * MB, 1),
        ((1, 300 * MB), (2, 300 * MB), 700 * MB, 400 * MB + 2),  # rows that cost nothing
    ],
)
def test_rows_by_the_line_through_two_calls(
    smaller: tuple[int, int], larger: tuple[int, int], room: int, rows: int
) -> None:
    assert rows_that_fit(smaller, larger, room) == rows


def test_on_a_cpu_nothing_is_limited() -> None:
    capacity = Capacity(lambda *_: pytest.fail("there is no GPU"))
    for bucket in (1, 2, 4):
        with capacity.measured("group", bucket, torch.device("cpu")):
            pass
