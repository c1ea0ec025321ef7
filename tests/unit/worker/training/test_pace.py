"""How fast a training is: by the clock, over its newest steps."""

from darkroom.worker.training.pace import WINDOW, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_step_says_nothing_and_the_clock_goes_on_between_steps() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.add(9) == {}
    clock.now += 0.5
    assert pace.add(8) == {"steps_per_second": 2.0, "seconds_left": 4.0}
    clock.now += 3.5  # a picture was made
    assert pace.add(7) == {"steps_per_second": 0.5, "seconds_left": 14.0}


def test_what_was_long_ago_counts_no_more() -> None:
    clock = Clock()
    pace = Pace(clock)
    for took in (60.0, *[1.0] * WINDOW):
        pace.add(1)
        clock.now += took
    assert pace.add(3) == {"steps_per_second": 1.0, "seconds_left": 3.0}


def test_a_clock_that_stands_still_is_no_pace() -> None:
    pace = Pace(lambda: 1.0)
    assert [pace.add(2), pace.add(1)] == [{}, {}]
