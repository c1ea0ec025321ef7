"""One piece in the making: what its kind may ask of the models that have a part in it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image

from darkroom.tasks.requests import JobRequest
from darkroom.tasks.wishes import Wish
from darkroom.worker.adapters.rows import Rows
from darkroom.worker.adapters.styles import StyleWish
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.images.autoencoder import Autoencoder
from darkroom.worker.images.steps import Abandoned, OnStep, Steps
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.base import PreparedJob, Several, Sources, Tools, in_turn
from darkroom.worker.kinds.conditioning import Conditioning
from darkroom.worker.kinds.journal import Journal, Unkept
from darkroom.worker.kinds.latents import latents_file
from darkroom.worker.kinds.products import Produced, ProducedFile
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.models.scale import LatentSpace
from darkroom.worker.training.dataset import Dataset
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.session import Session


@runtime_checkable
class Maker(Protocol):
    """A loaded model that makes latents and pictures: `darkroom.worker.images.generate.Generator`."""

    model: LoadedModel
    engine: Engine

    @property
    def autoencoder(self) -> Autoencoder:
        """Between pictures and latents."""

    @property
    def space(self) -> LatentSpace:
        """Whose latents are its own."""

    def latents(
        self, pipeline: str, wish: tuple[Asked, Conditioning], run: "Making", extent: Mapping[str, Any]
    ) -> torch.Tensor:
        """What a pipeline of the family leaves, not decoded."""

    def styled(self, rows: Rows, wish: StyleWish) -> Rows:
        """What an image's calls bring, with a style more."""

    def prepare(self, request: JobRequest) -> PreparedJob:
        """What is done once for all pieces of a resolved request."""

    def generate(
        self, prepared: PreparedJob, seed: int, sources: Sources, on_step: OnStep, ticket: Ticket | None = None
    ) -> Produced:
        """What a kind makes of a seed."""


class Making:
    """One piece: `darkroom.worker.kinds.base.Run`.

    `noise` draws what all of its passes begin with, one after the other. `rows`: by model, what its calls bring.
    `several`: how it does what can be done at the same time.
    """

    def __init__(
        self,
        maker: Maker,
        seed: int,
        steps: Steps,
        ticket: Ticket,
        rows: Mapping[str, Rows],
        journal: Journal | None = None,
        several: Several = in_turn,
    ) -> None:
        self._several = several
        self._maker, self.seed, self.steps, self.ticket, self.rows = maker, seed, steps, ticket, rows
        self.journal = _Outside(journal or Unkept(), steps)
        ticket.on_wait = steps.heeding(ticket.on_wait)  # it is asked within the pipelines
        self.noise = torch.Generator("cpu").manual_seed(seed)

    @property
    def device(self) -> torch.device:
        return self._maker.model.placement.device

    def latents(self, pipeline: str, asked: Asked, conditioning: Conditioning, **extent: Any) -> torch.Tensor:
        return self._maker.latents(pipeline, (asked, conditioning), self, extent)

    def by(self, tools: Tools) -> "Making":
        if not isinstance(tools, Maker):
            raise TypeError(f"{type(tools).__name__} makes no pictures")
        run = copy(self)
        run._maker = tools
        return run

    def styled(self, wish: StyleWish) -> "Making":
        name = self._maker.model.entry.name
        if name not in self.rows:  # nothing is denoised
            return self
        run = copy(self)
        run.rows = {**self.rows, name: self._maker.styled(self.rows[name], wish)}
        return run

    def denoise(self, pipeline: str, asked: Asked, conditioning: Conditioning, **extent: Any) -> Image.Image:
        return self.decode(self.latents(pipeline, asked, conditioning, **extent))

    def decode(self, latents: torch.Tensor) -> Image.Image:
        return self._maker.autoencoder.picture(latents)

    def encode(self, picture: Image.Image) -> torch.Tensor:
        return self._maker.autoencoder.latents(picture, self._maker.model.placement.dtype)

    def file_of(self, latents: torch.Tensor, **about: object) -> ProducedFile:
        return latents_file(latents, self._maker.space, **about)

    def training(self, options: TrainingOptions, dataset: Dataset, resolution: int, **more: Any) -> Session:
        maker = self._maker
        return Session(maker.model, maker.engine, self.encode, options, dataset, resolution=resolution, **more)

    def pictures(self, requests: Sequence[JobRequest], made: Callable[[int, Image.Image], None]) -> None:
        check, solo = self.ticket.on_wait, self.ticket.solo

        def make(place: int, over: threading.Event) -> None:
            def on_step(*_: object) -> None:
                check()
                if over.is_set():
                    raise Abandoned

            request = requests[place]
            ticket = Ticket(urgent=False, solo=solo, on_wait=check)
            made(
                place,
                self._maker.generate(self._maker.prepare(request), request.seed_of(0), {}, on_step, ticket).picture,
            )

        with self.steps.outside():
            self._several(make, len(requests))

    def round_trip(self, picture: Image.Image) -> Image.Image:
        return self._maker.autoencoder.round_trip(picture)


class _Outside:
    """A journal whose errors are not the model's."""

    def __init__(self, journal: Journal, steps: Steps) -> None:
        self._journal, self._steps = journal, steps

    def of(self, role: str, extension: str) -> "_Outside":
        return _Outside(self._journal.of(role, extension), self._steps)

    def kept(self) -> bytes | None:
        with self._steps.outside():
            return self._journal.kept()

    def keep(self, data: bytes) -> None:
        with self._steps.outside():
            self._journal.keep(data)

    def step(self, step: int, of: int, said: Mapping[str, float], save: Callable[[], bytes] | None) -> None:
        with self._steps.outside():
            self._journal.step(step, of, said, save)

    def sample(
        self, step: int, of: int, first: int | None, lora: Callable[..., bytes], save: Callable[[], bytes]
    ) -> None:
        with self._steps.outside():
            self._journal.sample(step, of, first, lora, save)

    def wishes(self) -> Sequence[Wish]:
        with self._steps.outside():
            return self._journal.wishes()

    def grant(self, one: Wish, file: ProducedFile | None = None) -> None:
        with self._steps.outside():
            self._journal.grant(one, file)
