"""Work that may wait: when it comes, and how much of the time it has."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from darkroom.worker.batching.agenda import Agenda
from darkroom.worker.batching.engine import Engine, EngineClosed
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.spare import Spare
from darkroom.worker.batching.standing import NOBODY, Standing


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("piece", [0.05, 0.4, 3.0])
def test_it_has_its_share_however_long_its_pieces_are(share: float, piece: float) -> None:
    spare, others, own = Spare(share), 0.0, 0.0
    while others + own < 1000:
        if spare.due:
            spare.ran(piece, beside=True)
            own += piece
        else:
            spare.waited(0.03)
            others += 0.03
    assert own / (others + own) == pytest.approx(share, abs=0.01)


def test_what_runs_while_nothing_else_is_there_costs_nothing_and_earns_nothing() -> None:
    spare = Spare(0.1)
    spare.waited(100.0)
    spare.ran(1.0, beside=False)
    assert not spare.due
    spare.waited(9.5)
    assert spare.due


def test_no_share_is_no_turn() -> None:
    spare = Spare(0.0)
    spare.waited(1e9)
    assert not spare.due


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_cannot_be(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        Spare(share)


def test_what_came_while_others_had_their_turn_has_its_credit_for_all_of_it() -> None:
    """A training's next step comes a moment after its last one, when others are at work again."""
    share = Spare(0.5)
    agenda = Agenda(share, Standing(), lambda _: NOBODY, lambda *_: None, lambda *_: None)
    agenda.makers = 1
    for work, earned in ((lambda: None, False), (lambda: agenda.spare.append(lambda: None), True)):
        agenda.calls.append(work)
        called, _ = agenda.next(0.0)
        assert called is not None
        called()
        assert share.due == earned


def test_it_waits_until_no_image_is_in_the_making() -> None:
    seen: list[str] = []
    with Engine(1, spare=0.0) as engine, ThreadPoolExecutor(1) as pool:
        with engine.making():
            waits = pool.submit(engine.spare, seen.append, "spare")
            while not engine.stats().spare:
                pass
            for number in range(20):
                engine.call(seen.append, str(number))
            assert not waits.done()
        waits.result()
    assert seen == [*map(str, range(20)), "spare"]


def test_it_comes_between_the_steps_of_images_as_often_as_its_share_says() -> None:
    """Its first piece comes as soon as anything was done in its place, since nothing is known of it yet."""
    order: list[str] = []

    def work(name: str, flops: int) -> Any:
        def run(sample: torch.Tensor, *_: Any) -> torch.Tensor:
            for _ in range(flops):
                torch.ones(200, 200) @ torch.ones(200, 200)
            order.append(name)
            return sample

        return run

    over = threading.Event()
    with Engine(1, spare=0.25) as engine, ThreadPoolExecutor(1) as pool, engine.making():

        def train() -> None:
            while not over.is_set():
                engine.spare(work("spare", 20), torch.zeros(1))

        training = pool.submit(train)
        with engine.image() as ticket:
            while order.count("spare") < 20:
                engine.denoise(work("step", 20), (torch.zeros(1, 4),), {}, ticket)
        over.set()
        engine.denoise(work("step", 200), (torch.zeros(1, 4),), {}, Ticket())
        training.result()
    between = order.count("step") / order.count("spare")
    assert 1.5 < between < 9, order  # three is what its share says; a machine at work elsewhere measures otherwise


def test_what_it_raises_comes_out_and_the_engine_goes_on() -> None:
    def broken() -> None:
        raise SystemExit(3)

    with Engine(1) as engine:
        with pytest.raises(SystemExit):
            engine.spare(broken)
        assert engine.spare(lambda: 5) == 5
        assert engine.call(lambda: engine.spare(lambda: 6)) == 6
    with pytest.raises(EngineClosed):
        engine.spare(lambda: 7)


def test_it_may_compute_with_gradients() -> None:
    def step() -> float:
        with torch.enable_grad():
            weight = torch.ones(3, requires_grad=True)
            (weight * 2).sum().backward()
            assert weight.grad is not None
            return float(weight.grad.sum())

    with Engine(1) as engine:
        assert engine.spare(step) == 6.0
