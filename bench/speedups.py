"""What each of `DARKROOM_SPEEDUPS` gives: the time of one call of SDXL's denoiser on a GPU, by rows and size."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from bench.serving.geometry import SDXL, random_denoiser
from bench.table import Row
from darkroom.worker.batching.graphs import Graphs
from darkroom.worker.batching.stacking import Call, run_plainly, run_stacked
from darkroom.worker.models.device import Placement
from darkroom.worker.models.tuning import tune
from darkroom.worker.settings import Speedup

SIDES, ROWS = (512, 1024), (2, 32)
CALLS = 5

#: One after the other on the same weights, so that none takes back what an earlier one changed.
SETS: tuple[tuple[Speedup, ...], ...] = (
    (),
    ("graphs",),
    ("channels_last",),
    ("channels_last", "fuse"),
    ("channels_last", "fuse", "graphs"),
    ("channels_last", "fuse", "compile", "graphs"),
)


def measure() -> list[Row]:
    """Medians in milliseconds, from the call to its result: what the host takes to start the kernels is in it."""
    if not torch.cuda.is_available():
        return [Row("what speedups give", "needs a CUDA device")]
    device, dtype = torch.device("cuda:0"), torch.bfloat16
    denoiser = random_denoiser(SDXL, str(device), dtype)
    shapes = [(side, rows) for side in SIDES for rows in ROWS]
    rows = [Row("SDXL's denoiser, bf16", "; ".join(f"{side} px, {rows} rows" for side, rows in shapes))]
    tuned: set[Speedup] = set()
    for names in SETS:
        new = frozenset(names) - tuned - {"graphs"}
        tune({"unet": denoiser}, Placement(device, dtype, "full", 1, new), [(side, side) for side in SIDES])
        tuned |= new
        run = Graphs().run if "graphs" in names else run_plainly
        began = time.perf_counter()
        found = [_milliseconds(denoiser, side, count, run) for side, count in shapes]
        text = "; ".join(f"{value:.1f} ms" for value in found)
        print(names, text, f"{time.perf_counter() - began:.0f} s", flush=True)
        rows.append(Row(", ".join(names) or "none", text))
    return rows


@torch.no_grad()
def _milliseconds(denoiser: Any, side: int, rows: int, run: Callable[..., Any]) -> float:
    call, seconds = _call(denoiser, side, rows), list[float]()
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        for _ in range(2 + CALLS):
            torch.cuda.synchronize()
            began = time.perf_counter()
            run_stacked([call], rows, run=run)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[2:]) * 1000


def _call(denoiser: Any, side: int, rows: int) -> Call:
    config, like = denoiser.config, {"device": denoiser.device, "dtype": denoiser.dtype}
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    added = {"text_embeds": torch.randn(rows, pooled, **like), "time_ids": torch.full((rows, 6), float(side), **like)}
    sample = torch.randn(rows, config.in_channels, side // 8, side // 8, **like)
    states = torch.randn(rows, 77, config.cross_attention_dim, **like)
    named: dict[str, Any] = {"encoder_hidden_states": states, "added_cond_kwargs": added, "return_dict": False}
    return Call.of(denoiser, (sample, torch.tensor(500)), named)
