"""Sweeping beside the work."""

import threading

from darkroom.worker.delivery.leftovers import LaterSweep


def test_who_asks_for_a_sweep_does_not_wait_for_it() -> None:
    hangs, swept = threading.Event(), list[str]()

    def slow(job_id: str) -> None:
        hangs.wait(60)
        swept.append(job_id)

    with LaterSweep(slow) as sweep:
        sweep("one")
        sweep("two")
        assert swept == []
        hangs.set()
    assert swept == ["one", "two"]
