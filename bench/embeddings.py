"""A job with stored embeddings against the same prompt encoded, from the request to the picture."""

import statistics
import time
from typing import Any

from bench.table import Row
from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.tasks.requests import Request
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.caches import Cache
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.warm import warm
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.tuning import make_engine
from darkroom.worker.settings import WorkerSettings

ROUNDS = 15
STEPS = 4  # few, so that the prompt's part shows
ENTRY = builtin_catalogue()["starter"]
Way = tuple[dict[str, Any], dict[str, bytes]]  # fields, and the files of its inputs
KEY = "0/embeddings-0-0000000000000000.safetensors"


def measure() -> list[Row]:
    """With the model that comes with Darkroom, on the CPU, in this process; another prompt in each round."""
    settings = WorkerSettings(device="cpu")
    placement = choose_placement(settings)
    seconds: dict[str, list[float]] = {"encoded": [], "stored": []}
    with make_engine(placement) as engine:
        generator = Generator(load_model(ENTRY, placement, settings), engine)
        warm(generator)
        for number in range(ROUNDS):
            prompt = f"a red star on a blue background, {number}"
            file = _embedded(generator, prompt)
            generator.embeddings = Cache()
            ways: dict[str, Way] = {
                "encoded": ({"prompt": prompt}, {}),
                "stored": ({"prompt_embeds": KEY}, {"prompt_embeds": file}),
            }
            for name in [*ways][:: 1 if number % 2 else -1]:  # the machine is not always as free
                began = time.perf_counter()
                _picture(generator, *ways[name])
                seconds[name].append(time.perf_counter() - began)
    found = {name: statistics.median(times) for name, times in seconds.items()}
    share = statistics.median(a / b for a, b in zip(seconds["stored"], seconds["encoded"], strict=True))
    return [
        Row("a picture of a prompt; of its stored embeddings", f"{found['encoded']:.3f} s; {found['stored']:.3f} s"),
        Row("stored embeddings against the prompt encoded", f"{share:.2f}", "<= 1.02", share <= 1.02),
    ]


def _picture(generator: Generator, fields: dict[str, Any], inputs: dict[str, bytes]) -> object:
    prepared = generator.prepare(_asked(seed=1, num_inference_steps=STEPS, **fields))
    sources = prepared.kind.read(prepared, inputs)
    return generator.generate(prepared, 1, sources, lambda *_: None, Ticket(solo=True)).picture


def _embedded(generator: Generator, prompt: str) -> bytes:
    prepared = generator.prepare(_asked(kind="embed", prompt=prompt))
    (file,) = generator.generate(prepared, 0, {}, lambda *_: None).files
    return file.data


def _asked(**fields: Any) -> Request:
    return resolve({"model": ENTRY.name, **fields}, {ENTRY.name: ENTRY}, lambda: None).filled
