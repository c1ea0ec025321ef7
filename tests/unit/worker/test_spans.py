"""What a profiler sees, and that nobody pays for it without one."""

from contextlib import nullcontext

import torch

from darkroom.worker.spans import span


def test_a_span_is_seen_by_a_profiler_alone() -> None:
    assert isinstance(span("unseen"), nullcontext)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, span("batch 4"):
        torch.ones(2)
    assert [event.name for event in profile.events() if event.name.startswith("darkroom.")] == ["darkroom.batch 4"]
    assert isinstance(span("unseen"), nullcontext)
