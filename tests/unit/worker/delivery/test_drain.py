"""Which jobs of a worker that stops go on: those that are done in time, at the pace of their steps so far."""

import pytest

from darkroom.tasks.claims import Claim, Hold
from darkroom.tasks.requests import Txt2Img
from darkroom.worker.delivery.attempt import Attempt, Drained, LeaseLost
from darkroom.worker.delivery.drain import Drain


class Clock:
    """Goes on when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("darkroom.worker.delivery.drain.time", "darkroom.worker.delivery.attempt.time"):
        monkeypatch.setattr(module, clock)
    return clock


def an_attempt(drain: Drain, images: int = 1) -> Attempt:
    request = Txt2Img(prompt="a cat", seeds=list(range(images)))
    return Attempt(Claim("id", "token", "m", request, [], 1, 0, 0.0), lambda: None, 600, drain)


def test_nothing_stops_before_the_signal(clock: Clock) -> None:
    drain = Drain(0)
    an_attempt(drain).check()
    assert (drain.begun, drain.over_for()) == (False, 0)


def test_a_job_that_has_not_begun_is_handed_back(clock: Clock) -> None:
    drain = Drain(60)
    drain.begin()
    with pytest.raises(Drained):
        an_attempt(drain).check()


@pytest.mark.parametrize(("done", "goes_on"), [(0.9, True), (0.4, False)])
def test_the_pace_so_far_says_whether_a_job_is_done_in_time(clock: Clock, done: float, *, goes_on: bool) -> None:
    drain = Drain(5)
    attempt = an_attempt(drain)
    attempt.progressed(0, 0.01)
    clock.now += 10
    attempt.progressed(0, done)
    drain.begin()
    if goes_on:
        attempt.check()
    else:
        with pytest.raises(Drained):
            attempt.check()


def test_all_images_count(clock: Clock) -> None:
    """Of two that are made side by side one is done: as much is left as was done."""
    drain = Drain(5)
    attempt = an_attempt(drain, images=2)
    attempt.progressed(1, 0.5)
    clock.now += 10
    attempt.progressed(1, 1.0)
    drain.begin()
    with pytest.raises(Drained):
        attempt.check()
    attempt.progressed(0, 1.0)
    attempt.check()  # it is being stored


def test_when_the_time_is_up_even_a_job_that_is_done_is_handed_back(clock: Clock) -> None:
    drain = Drain(5)
    attempt = an_attempt(drain)
    attempt.progressed(0, 1.0)
    drain.begin()
    clock.now += 6
    assert drain.over_for() == pytest.approx(1)
    with pytest.raises(Drained):
        attempt.check()


def test_a_second_signal_leaves_no_time(clock: Clock) -> None:
    drain = Drain(600)
    drain.begin()
    drain.hurry()
    clock.now += 0.5
    assert drain.over_for() == pytest.approx(0.5)


def test_a_loss_goes_before_the_drain(clock: Clock) -> None:
    drain = Drain(0)
    drain.begin()
    attempt = an_attempt(drain)
    attempt.heard(Hold.LOST)
    assert attempt.lost
    with pytest.raises(LeaseLost):
        attempt.check()
