"""What is read from a profiler's trace."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.serving.report import trace_table
from bench.serving.trace import Beside, beside, shorten
from bench.serving.traced import profiler
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.delivery.timings import Timings

Span = tuple[str, float, float]


def written(folder: Path, spans: Sequence[Span], device: Sequence[Span] = ()) -> Path:
    """A trace of spans: names, and first and last second."""
    events: list[dict[str, Any]] = [{"ph": "M", "name": "process_name"}]
    for cat, found in (("user_annotation", spans), ("gpu_user_annotation", device)):
        for name, start, end in found:
            events.append({"ph": "X", "cat": cat, "name": name, "ts": start * 1e6, "dur": (end - start) * 1e6})
    path = folder / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    return path


def test_what_runs_beside_the_denoiser_is_told_from_what_it_waits_for(tmp_path: Path) -> None:
    spans = [
        ("darkroom.batch 4", 0, 2), ("darkroom.denoise", 0, 2), ("darkroom.denoise", 0, 2),
        ("darkroom.denoise", 2, 5), ("darkroom.call decode", 3, 4), ("darkroom.batch 2", 4, 5),
        ("darkroom.encode", 1, 2.5), ("darkroom.encode", 1.5, 3), ("darkroom.store", 4.5, 9),
    ]  # fmt: skip
    assert beside(written(tmp_path, spans)) == [
        Beside("all of the time", 5, 3, 2),
        Beside("VAE decoder", 1, 0, 1),
        Beside("PNG encoding", 2, 1, 1),
        Beside("storing", 0.5, 0.5, 0),
    ]


def test_on_a_gpu_model_calls_last_as_long_as_their_kernels(tmp_path: Path) -> None:
    spans = [("darkroom.batch 4", 0, 0.1), ("darkroom.batch 4", 0.1, 0.2), ("darkroom.call decode", 0.3, 0.4),
             ("darkroom.denoise", 0, 0.1), ("darkroom.denoise", 0.2, 4)]  # fmt: skip
    device = [("darkroom.batch 4", 0, 2), ("darkroom.batch 4", 2, 4), ("darkroom.call decode", 1, 3)]
    assert beside(written(tmp_path, spans, device)) == [
        Beside("all of the time", 4, 4, 0),
        Beside("VAE decoder", 2, 2, 0),
    ]


def test_a_trace_without_denoiser_calls_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no denoiser call"):
        beside(written(tmp_path, [("darkroom.encode", 0, 1)]))


def test_a_worker_s_own_spans_are_found_in_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    sample = torch.ones(2, 4, 8, 8)

    def decode() -> torch.Tensor:
        return sample @ sample

    def image(engine: Engine) -> None:
        with Timings().phase("encode"):
            engine.denoise(torch.nn.functional.silu, (sample,), {}, Ticket(solo=True))
            engine.call(decode)
            engine.denoise(torch.nn.functional.silu, (sample,), {}, Ticket(solo=True))

    with Engine(1) as engine:
        profile = profiler()
        profile.start()
        threads = [threading.Thread(target=image, args=[engine]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        profile.stop()
    profile.export_chrome_trace(str(path))
    whole = path.stat().st_size
    found = beside(path)
    shorten(path)
    assert beside(path) == found and path.stat().st_size < whole
    assert [one.what for one in found] == ["all of the time", "VAE decoder", "PNG encoding"]
    assert all(0 < one.seconds < 60 for one in found) and found[0].ran > 0
    assert trace_table(found).count("\n") == 4
