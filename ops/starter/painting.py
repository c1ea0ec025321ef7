"""Pictures by the trained model, exactly as Darkroom's worker makes them."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from darkroom.tasks.catalogue import FolderSource, builtin_contents
from darkroom.tasks.requests import Request
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.models.device import choose_placement
from darkroom.worker.process.pinned import Pinned
from darkroom.worker.settings import WorkerSettings
from ops.starter.drawing import Picture

ENTRY = builtin_contents().models["starter"]


class Studio:
    """The model in `folder`, or the one that comes with Darkroom, loaded once; calls may come from several threads."""

    def __init__(self, folder: Path | None = None, threads: int = 2) -> None:
        settings = WorkerSettings(device="cpu", dtype="float32", memory="full", threads=threads)
        entry = ENTRY
        if folder:  # with its own lock file, so that none is left elsewhere
            entry = ENTRY.model_copy(update={"source": FolderSource(path=folder)})
            settings = settings.model_copy(update={"models_dir": folder})
        self._engine = Engine(threads)
        known = builtin_contents()
        contents = replace(known, models={**known.models, ENTRY.name: entry})
        #: The model, and those that are made of it.
        self.generators = Pinned(contents, choose_placement(settings), settings, self._engine).generators([entry])
        self.generator = self.generators[ENTRY.name]

    def __call__(self, prompt: str, seed: int, source: Picture | None = None, **fields: Any) -> Picture:
        """One picture (128, 128, 3) uint8, from noise or from `source`; `fields` are a request's."""
        prepared = self.generator.prepare(self.request(prompt, seed, from_source=source is not None, **fields))
        sources = {} if source is None else {"image": Image.fromarray(source)}
        return np.asarray(self.generator.generate(prepared, seed, sources, lambda *_: None).picture)

    def request(self, prompt: str, seed: int, *, from_source: bool = False, **fields: Any) -> Request:
        """The request, with every default filled in. Raises InvalidRequest."""
        # The reference is only for the request's form: the picture itself is at hand.
        source = {"kind": "img2img", "image": "inputs/default/source.png"} if from_source else {}
        return self.resolved(prompt=prompt, seed=seed, **source, **fields)

    def resolved(self, **fields: Any) -> Request:
        """A request with every default filled in, of this model unless it names another. Raises InvalidRequest."""
        catalogue = {name: generator.entry for name, generator in self.generators.items()}
        return resolve({"model": ENTRY.name, **fields}, catalogue, lambda: None).filled

    def develop(self, request: Request, inputs: Mapping[str, Image.Image]) -> list[Image.Image]:
        """All pictures of a resolved request; what it begins with is read from files, as a worker reads it."""
        generator = self.generators[str(request.model)]
        prepared = generator.prepare(request, self.generators)
        sources = prepared.kind.read(prepared, {name: png(picture) for name, picture in inputs.items()})
        pieces = [(prepared.piece(index), request.seed_of(index)) for index in range(request.pieces)]
        return [generator.generate(piece, seed, sources, lambda *_: None).picture for piece, seed in pieces]

    def files(self, request: Request, inputs: Mapping[str, bytes]) -> dict[str, bytes]:
        """What a resolved request makes besides pictures, by role."""
        generator = self.generators[str(request.model)]
        prepared = generator.prepare(request, self.generators)
        sources = prepared.kind.read(prepared, inputs)
        made = generator.generate(prepared, request.seed_of(0), sources, lambda *_: None)
        return {file.role: file.data for file in made.files}

    def close(self) -> None:
        """Ends the engine's thread."""
        self._engine.close()


def png(picture: Image.Image) -> bytes:
    """The file of a picture."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
