"""What a kind of job is to the worker, and what it may use of a loaded model."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from PIL import Image

from darkroom.storage.tensors import is_safetensors
from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.requests import JobRequest
from darkroom.worker.adapters.styles import StyleWish
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.conditioning import Conditioning
from darkroom.worker.kinds.embeddings import read_embeddings
from darkroom.worker.kinds.journal import Journal
from darkroom.worker.kinds.latents import read_latents
from darkroom.worker.kinds.products import Produced, ProducedFile
from darkroom.worker.kinds.sources import MOST_PIXELS, naming, prepare_source, read_source
from darkroom.worker.models.scale import LatentSpace
from darkroom.worker.models.texts import TextSpace
from darkroom.worker.training.dataset import Dataset
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.session import Session

#: What was read of a job's inputs, by the names of the request's fields.
Sources = Mapping[str, Any]

MOST_CUT = 0.2  # of a picture whose proportions no size of the model has, before it is told of


class Tools(Protocol):
    """What can be done once a job, for all of its pieces; `darkroom.worker.images.generate` has it."""

    @property
    def entry(self) -> ModelEntry:
        """The model."""

    @property
    def space(self) -> LatentSpace:
        """Whose latents are its own."""

    @property
    def texts(self) -> TextSpace:
        """Whose embeddings are its own."""

    def encode(self, asked: Asked, length: int = 0) -> tuple[Conditioning, list[str]]:
        """The prompts, encoded, as long as `length` at least, and warnings. Raises OutOfMemory, GenerationFailed."""

    def count_tokens(self, text: str) -> int:
        """Of the text encoder that reads it in the most."""

    def other(self, model: str) -> "Tools":
        """Those of another model of this process. Raises InvalidRequest where it has none of that name."""

    def count_steps(self, asked: Asked) -> int:
        """The denoiser calls that are left of a schedule which is cut, by schedulers of one call a step."""


#: Does a piece of work by its place; the event is set when another one has failed, and this one is for nothing.
Work = Callable[[int, threading.Event], None]
#: Has the work done for so many places, several at a time maybe; raises the first error.
Several = Callable[[Work, int], object]


def in_turn(work: Work, count: int) -> None:
    """`Several` for one thread."""
    for place in range(count):
        work(place, threading.Event())


class Run(Protocol):
    """One piece in the making; its seed, and what the model does for it. Any call may raise what ends the job."""

    @property
    def seed(self) -> int:
        """The piece's own."""

    @property
    def device(self) -> torch.device:
        """That of the job's own model."""

    @property
    def journal(self) -> Journal:
        """Of a piece that takes long."""

    def training(self, options: TrainingOptions, dataset: Dataset, resolution: int, **more: Any) -> Session:
        """A LoRA for the job's own model, at its first step; see Session."""

    def pictures(self, requests: Sequence[JobRequest], made: Callable[[int, Image.Image], None]) -> None:
        """Those of resolved requests of one picture each, as jobs of their own would make them, several at a time.

        They go after what is urgent. `made` is told the place of each and the picture (RGB), on any thread.
        """

    def latents(self, pipeline: str, asked: Asked, conditioning: Conditioning, **extent: Any) -> torch.Tensor:
        """What a pipeline of the family leaves; `extent`: what this pipeline alone is called with.

        Latents (1, 4, h/8, w/8), in the scale that schedulers work in and on the model's device.
        """

    def by(self, tools: Tools) -> "Run":
        """The same piece in the hands of another model: its steps, noise and calls go on."""

    def styled(self, wish: StyleWish) -> "Run":
        """The same piece with this style, in all that the job's own model denoises from now on."""

    def denoise(self, pipeline: str, asked: Asked, conditioning: Conditioning, **extent: Any) -> Image.Image:
        """The picture of these latents."""

    def decode(self, latents: torch.Tensor) -> Image.Image:
        """The picture of latents in the schedulers' scale, on any device."""

    def encode(self, picture: Image.Image) -> torch.Tensor:
        """The latents of a picture in the schedulers' scale; nothing is drawn for them."""

    def file_of(self, latents: torch.Tensor, **about: object) -> ProducedFile:
        """The file of latents in the schedulers' scale, with what is to be said of them besides."""

    def round_trip(self, picture: Image.Image) -> Image.Image:
        """The picture through the VAE and back."""


@dataclass(frozen=True)
class Further:
    """A model besides the job's own, and what it reads of the words."""

    tools: Tools
    conditioning: Conditioning


@dataclass(frozen=True)
class PreparedJob:
    """What all pieces of a job share; `space`, `texts`: whose latents and whose embeddings it may begin with."""

    kind: "Kind"
    request: JobRequest
    asked: Asked
    conditioning: Conditioning
    warnings: list[str]
    space: LatentSpace | None = field(default=None, kw_only=True)
    texts: TextSpace | None = field(default=None, kw_only=True)
    further: Mapping[str, Further] = field(default_factory=dict, kw_only=True)

    def told(self, sources: Sources) -> "PreparedJob":
        """With the embeddings that were read in place of a prompt, if there are any."""
        found = next((sources[name] for name in self.request.embeddings if name in sources), None)
        return self if found is None else replace(self, conditioning=found)

    def piece(self, _index: int) -> "PreparedJob":
        """For one piece of the job, where pieces differ by more than their seeds."""
        return self


class Kind(ABC):
    """What the worker does for one kind of job. Stateless: one object serves all threads."""

    #: The class of its requests.
    request: ClassVar[type[JobRequest]]
    #: What its trial pictures are made with, besides prompt and size.
    trial_fields: ClassVar[Mapping[str, Any]] = {}
    #: Whether a model is tried with it before its first job.
    tried: ClassVar[bool] = True
    #: Whether what may wait, such as a training, gives way to it.
    waits_for_nobody: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """As in requests."""
        return str(self.request.model_fields["kind"].default)

    def prepare(self, request: JobRequest, tools: Tools) -> PreparedJob:
        """What is done once, before the first piece. Raises InvalidRequest for what this model does not do."""
        asked = Asked.of(request, tools.entry)
        conditioning, warnings = tools.encode(asked)
        return PreparedJob(self, request, asked, conditioning, warnings, space=tools.space, texts=tools.texts)

    def read(self, prepared: PreparedJob, inputs: Mapping[str, bytes], most_pixels: int = MOST_PIXELS) -> Sources:
        """The inputs, read once for all pieces. Raises InputError."""
        sources, texts, guidance = {}, prepared.texts, prepared.asked.guidance
        for name in self.request.embeddings:
            if name in inputs and texts:
                with naming(name):
                    sources[name] = read_embeddings(inputs[name], texts, guidance=guidance)
        others = {name: data for name, data in inputs.items() if name not in self.request.embeddings}
        return {**sources, **self.read_sources(prepared, others, most_pixels)}

    def read_sources(self, prepared: PreparedJob, inputs: Mapping[str, bytes], most_pixels: int) -> Sources:
        """What a picture begins with: pictures; by content latents, where the field takes them."""
        return {name: self._read(name, data, prepared, most_pixels) for name, data in inputs.items()}

    def _read(self, name: str, data: bytes, prepared: PreparedJob, most_pixels: int) -> Image.Image | torch.Tensor:
        asked, taken = prepared.asked, self.request.latents.get(name)
        if prepared.space and (taken == "only" or (taken == "also" and is_safetensors(data))):
            return read_latents(data, asked, prepared.space)
        source, cut = read_source(data, asked.width, asked.height, asked.limits, most_pixels)
        if asked.width is None and cut > MOST_CUT:
            prepared.warnings.append("source_cropped")
        return source

    def steps(self, prepared: PreparedJob) -> int:
        """Denoising steps of one piece, in all of its passes."""
        return prepared.asked.all_steps

    @abstractmethod
    def make(self, prepared: PreparedJob, sources: Sources, run: Run) -> Produced:
        """One piece: the picture (RGB) of the run's seed, files, or both."""

    def files_of_job(self, _prepared: PreparedJob, _pictures: Iterable[Image.Image]) -> Sequence[ProducedFile]:
        """Files of the whole job, asked for once all pieces are stored; pictures are read when they are used."""
        return ()

    def facts(self, _prepared: PreparedJob) -> dict[str, object]:
        """What is said in a picture's file beside what every kind says."""
        return {}

    def trial(self, entry: ModelEntry, width: int, height: int) -> tuple[JobRequest, Sources]:
        """Two steps of a picture of this size: what a model is tried and warmed with, and the sources of it."""
        wish: dict[str, Any] = {
            "model": entry.name,
            "prompt": "a photograph",
            "negative_prompt": "",
            "width": width,
            "height": height,
            "num_inference_steps": 2,
            "guidance_scale": 5.0,
            "scheduler": entry.defaults.scheduler,
            "seeds": [0],
            "num_images": 1,
        }
        # Made past all checks: a model may allow no two steps, or no such prompt.
        required = (name for name in self.request.inputs if self.request.model_fields[name].is_required())
        wish |= dict.fromkeys(required, "inputs/default/trial.png")
        request = self.request.model_construct(None, **wish, **self.trial_fields)
        return request, {
            name: Image.new("RGB", (width, height))
            for name in self.request.inputs
            if name not in self.request.embeddings
        }


def source_of(prepared: PreparedJob, sources: Sources, name: str = "image") -> Image.Image:
    """The source picture of this name, at the size to generate in. Raises ValueError where there is none."""
    if not isinstance(sources.get(name), Image.Image):
        raise ValueError(f"{prepared.kind.name} without its {name}")
    asked = prepared.asked
    return prepare_source(sources[name], asked.width, asked.height, asked.limits)


def latents_of(sources: Sources, name: str = "image") -> torch.Tensor | None:
    """The source's latents (1, 4, h/8, w/8), where it was given as such."""
    found = sources.get(name)
    return found if isinstance(found, torch.Tensor) else None
