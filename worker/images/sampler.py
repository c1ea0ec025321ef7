"""Pictures with a LoRA that is still in training, as later jobs would make them."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from PIL import Image

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.own_loras import seen_by
from darkroom.tasks.requests import Finetune
from darkroom.worker.adapters.own_files import OwnFiles
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.errors import AdapterIncompatible
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.pictures import parameters_text
from darkroom.worker.images.steps import OnStep
from darkroom.worker.kinds.base import PreparedJob
from darkroom.worker.kinds.samples import sample_request


@dataclass(frozen=True)
class Sample:
    """A picture (RGB) of a training's prompt, and the text for its file."""

    image: Image.Image
    prompt: str
    seed: int
    text: str


@dataclass(frozen=True)
class Round:
    """One training with its LoRA as it is now; `offer`: the model, as if the LoRA were the tenant's."""

    generator: Generator
    training: Finetune
    offer: ModelOffer

    def make(self, prompt: int, on_step: OnStep, ticket: Ticket, **about: object) -> Sample:
        """The sample of a prompt, by its place; `about` is said in the file. Raises as Generator.generate."""
        request = sample_request(self.training, prompt, self.offer, self.training.name)
        prepared, seed = self.generator.prepare(request), request.seed_of(0)
        picture = self.generator.generate(prepared, seed, {}, on_step, ticket).picture
        return Sample(picture, str(request.prompt), seed, self._text(prepared, seed, picture, about))

    def _text(self, prepared: PreparedJob, seed: int, picture: Image.Image, about: dict[str, object]) -> str:
        """Names no LoRA that could be had: this one is of a step on the way."""
        asked = replace(prepared.asked, loras=())
        return parameters_text(asked, seed, picture.size, self.offer.name, {**about, "LoRA": self.training.name})


@contextmanager
def sampled(generator: Generator, files: OwnFiles, training: Finetune, lora: bytes) -> Iterator[Round]:
    """In the context the model has the LoRA of this file, whose digest is to be nobody else's; then nothing of it.

    Raises AdapterIncompatible on a worker that applies none, and an AdapterError where there is no room on its disk.
    """
    adapters, entry = generator.adapters, generator.entry
    if adapters is None:
        raise AdapterIncompatible(
            f"{entry.name} takes no LoRAs on this worker, so no samples are made with one",
            hint="leave out the speedup fuse, or sample_prompts",
        )
    sha256 = hashlib.sha256(lora).hexdigest()
    with files.passing(lora) as path, adapters.passing(training.name, path, sha256, entry.family) as offer:
        yield Round(generator, training, seen_by(entry, [offer]))
