"""How far a GPU is behind, told by events."""

import time

import pytest
import torch

from darkroom.worker.batching import pace
from darkroom.worker.batching.pace import Pace


class Event:
    """A GPU's, as far as it is asked."""

    def __init__(self, *, done: bool = False, gone: bool = False) -> None:
        self.done, self.gone = done, gone

    def query(self) -> bool:
        if self.gone:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        return self.done


def test_the_oldest_work_that_is_not_done_counts() -> None:
    found, events = Pace(lambda *_: None), [Event(), Event(), Event()]
    assert found.behind_since() is None
    began = time.monotonic()
    for event in events:
        found.started(event)
    first = found.behind_since()
    assert first is not None and first >= began
    events[0].done = events[1].done = True
    assert (found.behind_since() or 0) > first
    events[2].done = True
    assert found.behind_since() is None


def test_work_of_the_host_is_never_behind() -> None:
    found = Pace(lambda *_: None)
    found.started(None)
    assert found.behind_since() is None and not found.full and not found.busy


def test_a_device_that_is_gone_is_not_behind() -> None:
    found = Pace(lambda *_: None)
    found.started(Event(gone=True))
    assert found.behind_since() is None


def test_work_behind_a_call_that_hangs_does_not_make_it_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Pace(lambda *_: None)
    found.started(Event())
    first = found.behind_since()
    for _ in range(pace.STARTED - 1):
        found.started(Event())
    assert found.behind_since() == first
