"""Room by pixels, first come first served."""

import threading

import pytest

from darkroom.storage.errors import InputBomb
from darkroom.storage.gate import Budget, PixelGate


class Visitor:
    """A thread that stays inside until it is told to go."""

    def __init__(self, gate: PixelGate, pixels: int) -> None:
        self.inside, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._visit, args=(gate, pixels))
        self._thread.start()

    def _visit(self, gate: PixelGate, pixels: int) -> None:
        with gate.room(pixels):
            self.inside.set()
            self._go.wait(10)

    def leave(self) -> None:
        self._go.set()
        self._thread.join(10)


def in_line(gate: PixelGate, many: int) -> None:
    with gate._changed:
        assert gate._changed.wait_for(lambda: len(gate._line) == many, 10)


def test_small_ones_are_inside_together() -> None:
    gate = PixelGate(100)
    both = [Visitor(gate, 50), Visitor(gate, 50)]
    assert all(one.inside.wait(10) for one in both)
    for one in both:
        one.leave()


def test_who_came_first_is_first_even_where_another_would_fit() -> None:
    gate = PixelGate(100)
    first = Visitor(gate, 60)
    assert first.inside.wait(10)
    large = Visitor(gate, 60)
    in_line(gate, 1)
    small = Visitor(gate, 30)
    in_line(gate, 2)
    assert not large.inside.is_set() and not small.inside.is_set()
    first.leave()
    assert large.inside.wait(10) and small.inside.wait(10)
    large.leave()
    small.leave()


def test_one_over_the_limit_goes_in_alone() -> None:
    gate = PixelGate(100)
    with gate.room(1000):
        small = Visitor(gate, 1)
        in_line(gate, 1)
        assert not small.inside.is_set()
    assert small.inside.wait(10)
    small.leave()


def test_who_fails_inside_leaves_the_room() -> None:
    gate = PixelGate(1)
    with pytest.raises(ZeroDivisionError), gate.room(1):
        raise ZeroDivisionError
    with gate.room(1):
        pass


def test_waiting_costs_no_time() -> None:
    budget = Budget(0.05)
    threading.Event().wait(0.1)
    budget.check()
    with pytest.raises(InputBomb, match=r"over 0\.05 s"):
        work(budget)


def work(budget: Budget) -> None:
    while True:
        budget.check()
