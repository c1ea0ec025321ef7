"""What is asked for, and how a load is put on a side."""

import time
from collections import deque
from collections.abc import Sequence

import pytest

from bench.serving.asks import Ask, Load, arrivals, make_asks, units
from bench.serving.drive import drive
from bench.serving.side import Heard


class Echo:
    """A side that answers at once, in the order asked, and remembers how many were open at most."""

    name = "echo"

    def __init__(self, batch: int = 1) -> None:
        self.batch, self.most, self.submitted = batch, 0, []
        self._open: deque[tuple[str, int]] = deque()

    def submit(self, asks: Sequence[Ask]) -> str:
        token = str(len(self.submitted))
        self.submitted.append(list(asks))
        self._open.append((token, len(asks)))
        self.most = max(self.most, sum(count for _, count in self._open))
        return token

    def hear(self, seconds: float) -> Heard | None:
        if not self._open:
            time.sleep(min(seconds, 0.05))
            return None
        token, _ = self._open.popleft()
        return Heard(token, time.perf_counter(), None)


def test_asks_are_the_same_for_every_side_and_prompts_differ() -> None:
    asks = make_asks(50, (64, 128), (10, 20), seed=3)
    assert asks == make_asks(50, (64, 128), (10, 20), seed=3) != make_asks(50, (64, 128), (10, 20), seed=4)
    assert len({ask.prompt for ask in asks}) == len({ask.seed for ask in asks}) == 50
    assert {ask.shape for ask in asks} == {(64, 64, 10), (64, 64, 20), (128, 128, 10), (128, 128, 20)}


def test_arrivals_rise_at_the_rate() -> None:
    due = arrivals(5.0, 2000)
    assert list(due) == sorted(due)
    assert due[-1] == pytest.approx(400, rel=0.1)


def test_batches_are_of_one_shape_and_hold_all() -> None:
    asks = make_asks(40, (64, 96), (5,))
    found = units(asks, 16)
    assert all(len({ask.shape for ask in batch}) == 1 and len(batch) <= 16 for batch in found)
    assert sorted(ask.seed for batch in found for ask in batch) == list(range(40))
    assert units(asks, 1) == [[ask] for ask in asks]


@pytest.mark.parametrize(("batch", "most"), [(1, 4), (3, 3)])
def test_a_closed_load_keeps_so_many_in_flight(batch: int, most: int) -> None:
    side = Echo(batch)
    samples = drive(side, Load(make_asks(20, (64,), (2,)), in_flight=4))  # type: ignore[arg-type]
    assert sorted(sample.ask.seed for sample in samples) == list(range(20))
    assert side.most == most
    assert all(sample.latency >= 0 for sample in samples)


def test_an_open_load_asks_at_its_times_whatever_is_in_flight() -> None:
    due = (0.0, 0.01, 0.02, 0.1)
    samples = drive(Echo(), Load(make_asks(4, (64,), (2,)), due=due))  # type: ignore[arg-type]
    assert [sample.due for sample in samples] == list(due)
    assert all(sample.done >= sample.due for sample in samples)


def test_nothing_is_asked_after_the_time_is_up() -> None:
    samples = drive(Echo(), Load(make_asks(4, (64,), (2,)), due=(0.0, 0.01, 99.0, 100.0), seconds=0.2))  # type: ignore[arg-type]
    assert len(samples) == 2


def test_a_load_is_not_over_before_its_first_arrival() -> None:
    samples = drive(Echo(), Load(make_asks(2, (64,), (2,)), due=(0.05, 9.0), seconds=0.01))  # type: ignore[arg-type]
    assert [sample.due for sample in samples] == [0.05]
