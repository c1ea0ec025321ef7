"""What is trained: the model that comes with Darkroom, on pictures that are drawn here."""

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from bench.loras.flight import ENTRY
from darkroom.worker.batching.engine import Engine
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.lockfile import LOCAL
from darkroom.worker.models.places import folder_of
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.training.dataset import Dataset, read_files
from darkroom.worker.training.examples import Encode, Examples, Latents, sizes_of
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.plan import Plan
from darkroom.worker.training.session import Session

PICTURES, SIDE, GRID = 20, ENTRY.defaults.width, 8
COLOURS = ("red", "orange", "yellow", "green", "blue")


def folder() -> Path:
    """Where the model's files are."""
    return folder_of(ENTRY, WorkerSettings(), LOCAL)


def options(steps: int, **asked: Any) -> TrainingOptions:
    """A request's defaults, but for what is `asked`."""
    return TrainingOptions(steps=steps, seed=7, **asked)


def dataset() -> Dataset:
    """Squares and circles of five colours, and captions that say so."""
    files: dict[str, bytes] = {}
    for number in range(PICTURES):
        colour, shape = COLOURS[number % len(COLOURS)], "circle" if number % 2 else "square"
        image = Image.new("RGB", (SIDE, SIDE), "white")
        pen, near = ImageDraw.Draw(image), SIDE // 8 + number
        draw = pen.ellipse if shape == "circle" else pen.rectangle
        draw((near, near, SIDE - near, SIDE - near), fill=colour)
        written = BytesIO()
        image.save(written, "PNG")
        files |= {f"{number}.png": written.getvalue(), f"{number}.txt": f"a {colour} {shape} on white".encode()}
    return read_files(files, caption=None, trigger=None, resolution=SIDE, tokens=None, most_tokens=0)


def session(generator: Generator, engine: Engine, asked: TrainingOptions) -> Session:
    """A training as a job has it."""
    return Session(generator.model, engine, latents(generator), asked, dataset(), resolution=SIDE)


def examples(asked: TrainingOptions, latents: Latents, read: Encode) -> Examples:
    """What a session of these options learns from."""
    found = dataset()
    plan = Plan(sizes_of(found, SIDE, GRID), asked.batch_size, asked.gradient_accumulation, asked.seed)
    return Examples(found, plan, latents, read, sized=True)


def latents(generator: Generator) -> Latents:
    """As jobs encode their pictures."""
    return lambda picture: generator.autoencoder.latents(picture, generator.model.placement.dtype)
