"""A stored picture or file, held against what the manifest says of it; pictures also against what was made again."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageStat

from darkroom.storage.errors import InputError, KeyInvalid, ObjectCorrupt, ObjectNotFound, ObjectTooLarge
from darkroom.tasks.requests.parts import OutputFormat
from darkroom.worker.images.differences import Difference, differences
from darkroom.worker.images.pictures import encode, read_parameters
from darkroom.worker.images.records import FileRecord, ImageRecord
from darkroom.worker.kinds.sources import read_picture

#: The bytes of an object by its key, or None where no store is at hand. Raises StorageError.
Load = Callable[[str], bytes | None]

NOT_AT_HAND = "not at hand"


@dataclass(frozen=True)
class Stored:
    """A stored object: its bytes where they could be read, and what of the object is not as recorded."""

    data: bytes | None
    faults: tuple[Difference, ...]


def read_stored(record: ImageRecord | FileRecord, load: Load) -> Stored:
    """The object that a manifest names. Raises the StorageError of a store that does not answer."""
    name = f"images.{record.index}" if isinstance(record, ImageRecord) else f"files.{record.place}"
    try:
        data = load(record.key)
    except ObjectTooLarge:  # than what was stored; whoever loads need not read more than that
        return Stored(None, (Difference(f"{name}.bytes", record.bytes, "more"),))
    except (ObjectNotFound, ObjectCorrupt, KeyInvalid) as error:
        return Stored(None, (Difference(f"{name}.key", record.key, error.code),))
    if data is None:
        return Stored(None, (Difference(f"{name}.key", record.key, NOT_AT_HAND),))
    now = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    recorded = {field: getattr(record, field) for field in now}
    return Stored(data, tuple(differences(recorded, now, f"{name}.")))


def distance(original: bytes | None, image: Image.Image, record: ImageRecord) -> tuple[int, float] | None:
    """Largest and mean absolute difference over all channels; None where there is nothing to compare."""
    if original is None:
        return None
    try:
        before = read_picture(original)
    except InputError:  # what lies there is no picture any more
        return None
    now = as_shown(image, record, read_parameters(original))
    if before.size != now.size:
        return None
    apart = ImageStat.Stat(ImageChops.difference(before, now))
    return max(int(most) for _, most in apart.extrema), sum(apart.mean) / 3


def as_shown(image: Image.Image, record: ImageRecord, parameters: str = "") -> Image.Image:
    """A picture as its file shows it, once it is encoded as recorded: a lossy one has other pixels."""
    if record.content_type == "image/png":
        return image
    form: OutputFormat = "jpeg" if record.content_type == "image/jpeg" else "webp"
    return read_picture(encode(image, form, parameters)[0])
