"""Darkroom's side: its worker as its command starts it, and its client."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from PIL import Image
from pydantic import SecretStr

from bench.serving import traced
from bench.serving.asks import Ask
from bench.serving.program import SideFailed
from bench.serving.side import Setup, Side
from bench.serving.traced import Tracer
from darkroom.tasks import Darkroom, Lora, TaskSettings, Txt2Img
from darkroom.tasks.catalogue import FolderSource
from darkroom.worker.process.supervisor import waits
from darkroom.worker.settings import WorkerSettings

START_SECONDS = 900.0  # to load, verify and warm a large model, compiling several sizes included
COMPILED, COMPILED_ON_CPU = "channels_last,compile,graphs", "channels_last,compile"


Adapted = Literal["", "bank", "loras"]


class DarkroomSide(Side):
    """Darkroom's worker as its command starts it, and its client.

    `adapted`: the worker has the model's LoRAs, and with "loras" each picture has one of them, in turn.
    """

    shares = True

    def __init__(self, name: str, setup: Setup, *, compiled: bool = False, adapted: Adapted = "") -> None:
        super().__init__(name, setup, compiled=compiled)
        self._adapted = adapted
        self._loras = setup.model.loras if adapted else ()

    def submit(self, asks: Sequence[Ask]) -> str:
        (ask,) = asks
        return self._client.submit(self.request(ask)).id

    def request(self, ask: Ask) -> Txt2Img:
        """What is submitted for it."""
        entry = self._setup.model.entry
        return Txt2Img(
            model=entry.name,
            prompt=ask.prompt,
            width=ask.width,
            height=ask.height,
            num_inference_steps=ask.steps,
            guidance_scale=entry.defaults.guidance_scale,
            seed=ask.seed,
            loras=[self._lora(ask)] if self._adapted == "loras" else [],
        )

    def _lora(self, ask: Ask) -> Lora:
        return Lora(name=self._loras[ask.seed % len(self._loras)].stem, scale=0.8)

    def picture(self, token: str) -> Image.Image:
        return Image.open(next((self._folder / "objects").rglob(f"{token}/*.png")))

    def tracer(self) -> Tracer:
        """Of a side that was set up to be traced, once it is started."""
        return Tracer(self._folder / "tracer")

    def _command(self) -> list[str]:
        name = self._setup.model.entry.name
        if self._setup.free:
            return [sys.executable, "-m", "bench.serving.free", name]
        if self._setup.traced:
            return [sys.executable, "-m", "bench.serving.traced", name]
        return [sys.executable, "-m", "darkroom.cli", "worker", "--model", name, "--log-format", "text"]

    def _environment(self) -> dict[str, str]:
        model = self._setup.model
        settings = {
            "redis_url": self._url,
            "storage_url": (self._folder / "objects").as_uri(),
            "device": model.device,
            "dtype": model.dtype,
            "threads": str(self._setup.threads),
            "log_level": "warning",
            "warm_sizes": ",".join(f"{size}x{size}" for size in self._setup.sizes),
            **({"speedups": COMPILED if model.device != "cpu" else COMPILED_ON_CPU} if self._compiled else {}),
            **self._setup.settings,
        }
        if isinstance(model.entry.source, FolderSource):
            catalogue = self._folder / "catalogue.json"
            catalogue.write_text(json.dumps(self._contents()))
            settings |= {"catalogue": str(catalogue), "models_dir": str(self._folder / "models")}
        else:
            own = WorkerSettings()
            settings |= {"models_dir": str(own.models_dir), "catalogue": str(own.catalogue or "")}
        base = {**self._base(), **waits(), traced.VARIABLE: str(self._folder / "tracer")}
        return {**base, **{f"DARKROOM_{name.upper()}": value for name, value in settings.items()}}

    def _contents(self) -> dict[str, list[Any]]:
        entry = self._setup.model.entry
        loras = [
            {"name": path.stem, "family": entry.family, "source": {"type": "file", "path": str(path)}}
            for path in self._loras
        ]
        return {"models": [entry.model_dump(mode="json")], "loras": loras}

    def _connect(self) -> None:
        self._client = Darkroom(TaskSettings(redis_url=SecretStr(self._url)))
        deadline = time.monotonic() + START_SECONDS
        while not self._client.models().workers.get(self._setup.model.entry.name):
            self._program.check()
            if "worker.died" in self._program.log_end():  # its parent would start it again and again
                raise SideFailed(f"{self.name} died at its start:\n{self._program.log_end()}")
            if time.monotonic() > deadline:
                raise SideFailed(f"{self.name} was not ready in time:\n{self._program.log_end()}")
            time.sleep(0.1)

    def _done(self) -> Iterator[tuple[str, str | None]]:
        for event in self._client.feed("0-0"):
            if event.terminal:
                yield event.job_id, None if event.type == "job.succeeded" else f"{event.type}: {event.data}"

    def _close(self) -> None:
        self._closed = True
        self._client.close()
