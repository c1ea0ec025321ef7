"""Pictures by the trained model, exactly as Darkroom's worker makes them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from darkroom.tasks.catalogue import FolderSource, builtin_catalogue
from darkroom.tasks.requests import Img2Img, Request, Txt2Img
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.images.generate import Generator
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings
from ops.starter.drawing import Picture

ENTRY = builtin_catalogue()["starter"]


class Studio:
    """The model in `folder`, or the one that comes with Darkroom, loaded once; calls may come from several threads."""

    def __init__(self, folder: Path | None = None, threads: int = 2) -> None:
        settings = WorkerSettings(device="cpu", dtype="float32", memory="full", threads=threads)
        entry = ENTRY
        if folder:  # with its own lock file, so that none is left elsewhere
            entry = ENTRY.model_copy(update={"source": FolderSource(path=folder)})
            settings = settings.model_copy(update={"models_dir": folder})
        self._engine = Engine(threads)
        self.generator = Generator(load_model(entry, choose_placement(settings), settings), self._engine)

    def __call__(self, prompt: str, seed: int, source: Picture | None = None, **fields: Any) -> Picture:
        """One picture (128, 128, 3) uint8, from noise or from `source`; `fields` are a request's."""
        prepared = self.generator.prepare(self.request(prompt, seed, from_source=source is not None, **fields))
        sources = {} if source is None else {"image": Image.fromarray(source)}
        return np.asarray(self.generator.generate(prepared, seed, sources, lambda *_: None).picture)

    def request(self, prompt: str, seed: int, *, from_source: bool = False, **fields: Any) -> Request:
        """The request, with every default filled in. Raises InvalidRequest."""
        common = {"model": ENTRY.name, "prompt": prompt, "seed": seed, **fields}
        # The reference is only for the request's form: the picture itself is at hand.
        asked = Img2Img(image="inputs/default/source.png", **common) if from_source else Txt2Img(**common)
        return resolve(asked, {ENTRY.name: ENTRY}, lambda: None).filled

    def close(self) -> None:
        """Ends the engine's thread."""
        self._engine.close()
