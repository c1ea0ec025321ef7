"""Make the pictures of a manifest again and hold them against the recorded ones."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageChops, ImageStat

from darkroom.storage.errors import InputError, InputMissing
from darkroom.storage.images import open_image
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.errors import ManifestInvalid
from darkroom.worker.images.generate import Generator, OnStep
from darkroom.worker.images.manifest import Manifest, circumstances
from darkroom.worker.images.pictures import OutputFormat, encode, read_parameters
from darkroom.worker.images.records import ImageRecord, pixels_sha256

#: The bytes of an object by its key, or None where they are not at hand.
Load = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Difference:
    """A circumstance that is not as it was; None where one side has none."""

    field: str
    recorded: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.field}: recorded {self.recorded}, now {self.now}"


@dataclass(frozen=True)
class ReplayedImage:
    """One picture made again.

    `bit_equal` compares digests of the pixels. `max_abs` and `mean_abs` tell how far apart the pictures are, in levels
    of 0 to 255; None without a readable original, or where the sizes differ. JPEG and WebP are compared as their
    files show.
    """

    index: int
    seed: int
    image: Image.Image
    bit_equal: bool
    max_abs: int | None
    mean_abs: float | None


class Replay:
    """A manifest on a generator of its model: `differences` at once, `images` one by one as they are made."""

    def __init__(self, manifest: Manifest, generator: Generator, load: Load) -> None:
        """`load` finds the source picture (by the request's reference) and the originals (by their keys).

        Raises ManifestInvalid for another model's manifest, InputMissing where the source picture is not at hand.
        """
        if manifest.model.name != generator.model.entry.name:
            raise ManifestInvalid(f"made by {manifest.model.name}, the model at hand is {generator.model.entry.name}")
        self._manifest, self._generator, self._load = manifest, generator, load
        source = self._source_bytes()
        self._source = open_image(source) if source is not None else None
        self.differences = _differences(manifest, generator, source)

    def images(self, on_step: OnStep = lambda *_: None) -> Iterator[ReplayedImage]:
        """Generates and compares one recorded picture after the other. Raises what `Generator.generate` raises.

        Denoiser calls run where they were placed; where that cannot be, it is among the `differences` afterwards.
        """
        prepared = self._generator.prepare(self._manifest.request)
        for record in self._manifest.images:
            ticket = Ticket(script=Script(record.calls)) if record.calls else Ticket(solo=True)
            image = self._generator.generate(prepared, record.seed, self._source, on_step, ticket)
            if record.calls not in ("", now := str(ticket.placements)):
                self.differences.append(Difference(f"images.{record.index}.calls", record.calls, now))
            far = _distance(self._load(record.key), image, record)
            equal = pixels_sha256(image) == record.pixels_sha256
            yield ReplayedImage(record.index, record.seed, image, equal, *(far or (None, None)))

    def _source_bytes(self) -> bytes | None:
        reference = getattr(self._manifest.request, "image", None)
        if reference is None:
            return None
        data = self._load(reference)
        if data is None:
            raise InputMissing(f"the source picture {reference[:100]!r} is not at hand")
        return data


def _differences(manifest: Manifest, generator: Generator, source: bytes | None) -> list[Difference]:
    now = manifest.model_copy(
        update={
            **circumstances(generator.model, manifest.scheduler.id),
            "input_sha256": hashlib.sha256(source).hexdigest() if source is not None else None,
        }
    )
    fields = {"darkroom", "model", "scheduler", "dtype", "memory", "environment", "input_sha256"}
    before, after = (_flat(one.model_dump(mode="json", by_alias=True, include=fields)) for one in (manifest, now))
    names = sorted({*before, *after})
    return [Difference(n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _distance(original: bytes | None, image: Image.Image, record: ImageRecord) -> tuple[int, float] | None:
    """Largest and mean absolute difference over all channels; None where there is nothing to compare."""
    if original is None:
        return None
    try:
        before, now = open_image(original).convert("RGB"), image
    except InputError:  # what lies there is no picture any more
        return None
    if record.content_type != "image/png":  # a lossy file shows other pixels than were encoded
        form: OutputFormat = "jpeg" if record.content_type == "image/jpeg" else "webp"
        now = open_image(encode(image, form, read_parameters(original))[0]).convert("RGB")
    if before.size != now.size:
        return None
    apart = ImageStat.Stat(ImageChops.difference(before, now))
    return max(int(most) for _, most in apart.extrema), sum(apart.mean) / 3
