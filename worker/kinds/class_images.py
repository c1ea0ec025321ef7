"""Pictures of a training's class prompts, which the model makes before it learns and learns from beside its data set.

They are one zip, a file of the job: pictures of 8 bits a colour, each with its prompt as its caption, which people look
at, and which can be a data set again. Once all are made the training goes by what was stored, whoever goes on with it.
"""

import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO

from PIL import Image

from darkroom.storage.archives import packed
from darkroom.storage.errors import InputError
from darkroom.storage.images import open_picture
from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.requests import Finetune, JobRequest
from darkroom.worker.errors import CheckpointInvalid
from darkroom.worker.kinds.base import Run, Tools
from darkroom.worker.kinds.journal import Journal
from darkroom.worker.kinds.products import ProducedFile
from darkroom.worker.kinds.samples import picture_request
from darkroom.worker.training.dataset import Dataset, Example, dataset_of
from darkroom.worker.training.plan import class_image_seed

ROLE, EXTENSION = "prior", "zip"
FIRST_KEPT = 16  # pictures; then at twice as many each time, so that all writes are twice the last one at most


@dataclass(frozen=True)
class ClassImages:
    """What was made: to be learned from, and as the job's file."""

    dataset: Dataset
    file: ProducedFile


def class_requests(request: Finetune, tools: Tools) -> list[JobRequest]:
    """Of all class pictures of a resolved request, one each; prompts take turns. Raises InvalidRequest."""
    prompts, entry = request.class_prompts or [], tools.entry
    faults = [
        Fault(f"class_prompts.{place}", "too_long", f"has {tokens} tokens, {entry.name} reads {entry.prompt_tokens}")
        for place, prompt in enumerate(prompts)
        if (tokens := tools.count_tokens(prompt)) > entry.prompt_tokens
    ]
    if faults:
        raise InvalidRequest(faults)
    return [
        picture_request(request, prompts[index % len(prompts)], class_image_seed(request.seed or 0, index), entry)
        for index in range(request.recipe.num_class_images if prompts else 0)
    ]


def class_images(requests: Sequence[JobRequest], run: Run, steps: int) -> ClassImages | None:
    """The pictures, in the order of their requests; those that an earlier attempt kept are not made again.

    `steps`: of the training, of which none is done yet. None where there are no requests. Raises what ends the job,
    CheckpointInvalid for what is none of ours.
    """
    if not requests:
        return None
    gallery = _Gallery(requests, run.journal.of(ROLE, EXTENSION), steps)
    gallery.fill(run)
    return gallery.whole()


class _Gallery:
    """What there is until now, by place. A drain or a cancel loses none of it."""

    def __init__(self, requests: Sequence[JobRequest], journal: Journal, steps: int) -> None:
        self._requests, self._journal, self._steps = requests, journal, steps
        kept = journal.kept()
        self._files = _unpacked(kept, len(requests)) if kept else {}
        self._kept, self._lock = len(self._files), threading.Lock()

    def fill(self, run: Run) -> None:
        """Makes what is missing, and keeps it."""
        missing = [place for place in range(len(self._requests)) if place not in self._files]
        if not missing:
            return
        try:
            run.pictures([self._requests[place] for place in missing], lambda at, made: self._add(missing[at], made))
        except BaseException:
            if len(self._files) > self._kept:
                self._tell()
            raise
        self._journal.keep(self._packed())

    def whole(self) -> ClassImages:
        """All of them."""
        examples = [_example(place, self._files[place], one.title) for place, one in enumerate(self._requests)]
        return ClassImages(dataset_of(examples), ProducedFile(ROLE, self._packed(), EXTENSION))

    def _add(self, place: int, picture: Image.Image) -> None:
        written = BytesIO()
        picture.save(written, "PNG")
        with self._lock:
            self._files[place] = written.getvalue()
            self._tell()
            if max(FIRST_KEPT, 2 * self._kept) <= len(self._files) < len(self._requests):
                self._journal.keep(self._packed())

    def _tell(self) -> None:
        """Keeps them where the attempt ends, and raises that."""
        told = {"class_images": len(self._files), "class_images_of": len(self._requests)}
        self._journal.step(0, self._steps, told, self._packed)

    def _packed(self) -> bytes:
        self._kept = len(self._files)
        files = [(place, data, self._requests[place].title.encode()) for place, data in sorted(self._files.items())]
        return packed(one for place, data, text in files for one in ((f"{place}.png", data), (f"{place}.txt", text)))


def _unpacked(data: bytes, most: int) -> dict[int, bytes]:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            named = {f"{place}.png": place for place in range(most)}
            return {named[name]: archive.read(name) for name in archive.namelist() if name in named}
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError, RuntimeError) as error:
        raise CheckpointInvalid(f"the class pictures cannot be read: {str(error)[:200]}") from error


def _example(place: int, picture: bytes, caption: str) -> Example:
    try:
        with open_picture(picture) as opened:
            size = opened.size
    except InputError as error:
        raise CheckpointInvalid(f"class picture {place} cannot be read: {error.message}") from error
    return Example(f"{place}.png", picture, caption, sha256(picture).hexdigest(), *size)
