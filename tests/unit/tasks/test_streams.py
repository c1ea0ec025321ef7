"""Pages of events."""

import pytest

from darkroom.tasks import Event, QueueUnavailable
from darkroom.tasks.streams import Batch, shown


def test_a_preview_that_cannot_be_fetched_costs_no_event() -> None:
    batch = Batch([Event("1-0", "job.progress", 1.0, "a", "default", {"preview": True})], "1-0")
    operation = shown("a", batch)
    next(operation)
    with pytest.raises(StopIteration) as stopped:
        operation.throw(QueueUnavailable("away"))
    assert stopped.value.value is batch
