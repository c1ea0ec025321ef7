"""What a picture waits for more whose LoRA is not in the bank and was not read before."""

import statistics
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from bench.loras.files import Which, add_lora, everything, transformers, write_lora
from bench.loras.flight import job, picture, starter, with_loras
from bench.serving.geometry import SDXL
from bench.table import Row
from darkroom.worker.adapters.adapters import Adapters
from darkroom.worker.adapters.library import Library
from darkroom.worker.adapters.names import ModelLayers
from darkroom.worker.batching.engine import Engine
from darkroom.worker.models.adaptable import adapt
from darkroom.worker.models.loading import LoadedModel

MOST = 0.05  # seconds over those of reading the file
STEPS = 2
SORTS: tuple[tuple[str, str, Which, int], ...] = (
    ("small", "rank 8", transformers, 8),
    ("large", "rank 128, convolutions too", everything, 128),
)


def fresh(folder: Path, rounds: int, sorts: tuple[tuple[str, str, Which, int], ...] = SORTS) -> list[Row]:
    """Pictures one at a time: each with a LoRA that no other had, and once more."""
    with starter() as (engine, load):
        model = load()
        rows = []
        for name, about, which, rank in sorts:
            paths = [folder / f"{name}-{number}.safetensors" for number in range(rounds)]
            for seed, path in enumerate(paths):
                write_lora(path, model.components["unet"], which, rank, seed)
            rows.append(_row(about, paths, *_seconds(paths, model, engine)))
        return rows


def _seconds(paths: list[Path], model: LoadedModel, engine: Engine) -> tuple[float, float]:
    """By medians: how much later the first picture comes than the second, and plain reading."""

    def add(adapters: Adapters) -> None:
        for path in paths:
            add_lora(adapters.library, path)

    generator = with_loras(model, engine, add)
    later, plain = [], []
    for path in paths:
        wish: dict[str, Any] = {"loras": [path.stem], "num_inference_steps": STEPS}
        times = []
        for _ in range(3):
            began = time.perf_counter()
            picture(job(generator, **wish))
            times.append(time.perf_counter() - began)
        later.append(times[0] - statistics.mean(times[1:]))
        plain.append(_reading(path))
    return statistics.median(later), statistics.median(plain)


def _row(about: str, paths: list[Path], later: float, plain: float) -> Row:
    size = paths[0].stat().st_size / 1e6
    what = f"a LoRA that is not in the bank ({about}, {size:.1f} MB): its picture comes later by"
    text = f"{1000 * later:.0f} ms; the file alone is read in {1000 * plain:.1f} ms"
    return Row(what, text, "<= that + 50 ms", later <= plain + MOST)


def large_file(folder: Path, rounds: int) -> Row:
    """For SDXL's denoiser, of which only shapes are made: read, checked, and laid out as the bank takes it."""
    with torch.device("meta"):
        denoiser = UNet2DConditionModel(**SDXL.unet)
    path = write_lora(folder / "sdxl.safetensors", denoiser, transformers, 32, 0)
    layers, slots = ModelLayers({"unet": denoiser}), adapt(denoiser)
    ours, plain = [], []
    for _ in range(rounds):
        library = Library({"unet": slots}, layers, torch.bfloat16)
        add_lora(library, path)
        began = time.perf_counter()
        library.load(library.use(path.stem, 1.0))
        ours.append(time.perf_counter() - began)
        plain.append(_reading(path))
    what = f"an SDXL LoRA of rank 32 ({path.stat().st_size / 1e6:.0f} MB) is read, checked and laid out in"
    text = f"{statistics.median(ours):.2f} s; the file alone is read in {statistics.median(plain):.2f} s"
    return Row(what, text)


def _reading(path: Path) -> float:
    began = time.perf_counter()
    path.read_bytes()
    return time.perf_counter() - began
