"""Make the pictures of a manifest again and hold them against the recorded ones."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from PIL import Image

from darkroom.storage.errors import InputMissing
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.errors import ManifestInvalid
from darkroom.worker.images.circumstances import circumstances, further_records
from darkroom.worker.images.differences import Difference, differences
from darkroom.worker.images.files_again import ReplayedFile, compared_files
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import Manifest
from darkroom.worker.images.records import FileRecord, ImageRecord, pixels_sha256
from darkroom.worker.images.steps import OnStep
from darkroom.worker.images.stored import Load, Stored, as_shown, distance, read_stored
from darkroom.worker.kinds.journal import Unkept
from darkroom.worker.kinds.products import Produced


@dataclass(frozen=True)
class ReplayedImage:
    """One picture made again.

    `bit_equal` compares its pixels with those that were recorded. `max_abs` and `mean_abs` tell how far it is from the
    stored picture, in levels of 0 to 255; None without a readable one, or where the sizes differ. JPEG and WebP are
    compared as their files show. `faults`: what of the stored object is not as recorded.
    """

    index: int
    seed: int
    image: Image.Image
    bit_equal: bool
    max_abs: int | None
    mean_abs: float | None
    faults: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether it is the recorded picture, and what is stored is that, too."""
        return self.bit_equal and not self.faults and self.max_abs == 0


class Replay:
    """A manifest on a generator of its model: `differences` at once, `images` one by one, and `files` after them."""

    def __init__(
        self,
        manifest: Manifest,
        generator: Generator,
        load: Load,
        beside: Mapping[str, Generator] = MappingProxyType({}),
    ) -> None:
        """`load` finds the source picture (by the request's reference) and the stored ones (by their keys).

        `beside` has the further models that had a part in it, by their names.
        Raises ManifestInvalid for another model's manifest, InputMissing where the source picture is not at hand, and
        what `load` raises of it.
        """
        if manifest.model.name != generator.model.entry.name:
            raise ManifestInvalid(f"made by {manifest.model.name}, the model at hand is {generator.model.entry.name}")
        self._manifest, self._generator, self._load = manifest, generator, load
        inputs = {name: self._input(name, named) for name, named in manifest.request.references.items()}
        self._prepared = generator.prepare(manifest.request, beside)
        self._sources = self._prepared.kind.read(self._prepared, inputs)
        now = {"adapters": list(generator.used(self._prepared)), "style": generator.style_used(self._prepared)}
        self.differences = _differences(manifest, generator, inputs, beside, now)
        self.files: list[ReplayedFile] = []

    def images(self, on_step: OnStep = lambda *_: None) -> Iterator[ReplayedImage]:
        """Generates and compares one recorded picture after the other, in the order of their indices.

        Files are compared on the way; at the end `files` has all that were recorded.
        Raises what `Generator.generate` raises, and the StorageError of a store that does not answer.
        Denoiser calls run where they were placed; where that cannot be, it is among the `differences` afterwards.
        """
        recorded, files = {image.index: image for image in self._manifest.images}, self._manifest.files
        pictures: list[Image.Image] = []
        for index in range(self._manifest.request.pieces):
            record = recorded.get(index)
            stored = read_stored(record, self._load) if record else None  # one that is away is told of before the work
            made = self._made(index, on_step)
            self.files += compared_files(files, index, made.files, self._load)
            if record and stored and made.image:
                if any(file.index is None for file in files):
                    pictures.append(as_shown(made.image, record))
                yield _compared(record, made.image, stored)
        if any(file.index is None for file in files):
            again = self._prepared.kind.files_of_job(self._prepared, pictures)
            self.files += compared_files(files, None, again, self._load)

    def _made(self, index: int, on_step: OnStep) -> Produced:
        """What is made for an image, its calls where they were."""
        records: list[ImageRecord | FileRecord] = [*self._manifest.images, *self._manifest.files]
        calls = next((record.calls for record in records if record.index == index and record.calls), "")
        ticket = Ticket(script=Script(calls)) if calls else Ticket(solo=True)
        seed = self._manifest.request.seed_of(index)
        journal = _Recorded([file for file in self._manifest.files if file.index == index], self._load)
        made = self._generator.generate(self._prepared.piece(index), seed, self._sources, on_step, ticket, journal)
        if calls not in ("", now := str(ticket.placements)):
            self.differences.append(Difference(f"images.{index}.calls", calls, now))
        return made

    def _input(self, field: str, reference: str) -> bytes:
        data = self._load(reference)
        if data is None:
            raise InputMissing(f"the {field} {reference[:100]!r} is not at hand")
        return data


class _Recorded(Unkept):
    """What a piece went on from, as it was stored: the class pictures of a training, which shared calls with others."""

    def __init__(self, files: Sequence[FileRecord], load: Load, role: str = "") -> None:
        self._files, self._load, self._role = files, load, role

    def of(self, *named: object) -> "_Recorded":
        """That of the file of this role."""
        return _Recorded(self._files, self._load, str(named[0]))

    def kept(self) -> bytes | None:
        """Its bytes; None where they are not at hand or not as recorded: then it is made anew."""
        found = (read_stored(file, self._load) for file in self._files if file.role == self._role)
        return next((stored.data for stored in found if not stored.faults), None)


def _compared(record: ImageRecord, image: Image.Image, stored: Stored) -> ReplayedImage:
    same = pixels_sha256(image) == record.pixels_sha256 and image.size == (record.width, record.height)
    most, mean = distance(stored.data, image, record) or (None, None)
    return ReplayedImage(record.index, record.seed, image, same, most, mean, stored.faults)


def _differences(
    manifest: Manifest,
    generator: Generator,
    inputs: Mapping[str, bytes],
    beside: Mapping[str, Generator],
    more: Mapping[str, object],
) -> list[Difference]:
    models = {name: one.model for name, one in beside.items()}
    now = manifest.model_copy(
        update={
            **circumstances(generator.model, manifest.scheduler.id if manifest.scheduler else None),
            "inputs_sha256": {name: hashlib.sha256(data).hexdigest() for name, data in inputs.items()},
            "further_models": further_records(manifest.request, models),
            **more,
        }
    )
    fields = {"darkroom", "model", "scheduler", "dtype", "memory", "environment", "inputs_sha256", "style"}
    before, after = (
        one.model_dump(mode="json", by_alias=True, include=fields)
        | {"further_models": _by_name(one), "adapters": _in_order(one)}
        for one in (manifest, now)
    )
    return differences(before, after)


def _by_name(manifest: Manifest) -> dict[str, object]:
    return {one.model.name: one.model_dump(mode="json", by_alias=True) for one in manifest.further_models}


def _in_order(manifest: Manifest) -> dict[str, object]:
    return {str(place): one.model_dump(mode="json") for place, one in enumerate(manifest.adapters)}
