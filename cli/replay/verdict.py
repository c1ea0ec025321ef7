"""What is said of pictures that were made again: to programs, and to people."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from darkroom.cli.screen import table

if TYPE_CHECKING:
    from darkroom.worker.images.differences import Difference
    from darkroom.worker.images.files_again import ReplayedFile
    from darkroom.worker.images.manifest import Manifest
    from darkroom.worker.images.replay import ReplayedImage

NO_SAMPLES = "they are of steps on the way, whose weights are not kept"
_SHOWN = 20  # characters of a value; a digest's first ones tell enough


@dataclass(frozen=True)
class Verdict:
    """`faults` speak against the manifest itself; with other `circumstances` the pictures may be equal all the same."""

    manifest: "Manifest"
    images: Sequence["ReplayedImage"]
    files: Sequence["ReplayedFile"]
    faults: Sequence["Difference"]
    circumstances: Sequence["Difference"]
    saved: Sequence[Path]

    @property
    def equal(self) -> bool:
        """Whether all is as recorded: the manifest, each picture and file made again, and each that is stored."""
        whole = len(self.images) == len(self.manifest.images) and len(self.files) == len(self.manifest.files)
        return whole and bool(self._made) and not self.faults and all(one.equal for one in self._made)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "job_id": self.manifest.job_id,
            "model": self.manifest.model.name,
            "bit_equal": self.equal,
            "images": [_image(image) for image in self.images],
            "files": [_file(file) for file in self.files],
            "samples_not_made_again": len(self.manifest.samples),
            "faults": [asdict(fault) for fault in self._all_faults()],
            "differences": [asdict(difference) for difference in self.circumstances],
            "saved": [str(path) for path in self.saved],
        }

    def shown(self) -> RenderableType:
        """For people."""
        parts: list[RenderableType] = []
        if self.images:
            parts.append(table("IMAGE", "SEED", "RESULT", rows=map(_row, self.images)))
        if self.files:
            parts.append(table("FILE", "IMAGE", "RESULT", rows=map(_file_row, self.files)))
        for title, found in (("FAULT", self._all_faults()), ("NOT AS RECORDED", self.circumstances)):
            if found:
                rows = ((one.field, _short(one.recorded), _short(one.now)) for one in found)
                parts.append(table(title, "THEN", "NOW", rows=rows))
        if count := len(self.manifest.samples):
            parts.append(f"{count} sample{'s' if count > 1 else ''} not made again: {NO_SAMPLES}")
        if not self.equal and not self.circumstances:
            parts.append("every recorded circumstance is as it was")
        return Group(*[line for part in parts for line in ("", part)][1:])

    def _all_faults(self) -> list["Difference"]:
        return [*self.faults, *(fault for one in self._made for fault in one.faults)]

    @property
    def _made(self) -> list["ReplayedImage | ReplayedFile"]:
        return [*self.images, *self.files]


def _image(image: "ReplayedImage") -> dict[str, Any]:
    return {name: getattr(image, name) for name in ("index", "seed", "equal", "bit_equal", "max_abs", "mean_abs")}


def _file(file: "ReplayedFile") -> dict[str, Any]:
    return {name: getattr(file, name) for name in ("role", "index", "equal", "bit_equal")}


def _file_row(file: "ReplayedFile") -> tuple[object, ...]:
    if file.equal:
        result = "equal, byte for byte"
    else:
        result = "made again as recorded" if file.bit_equal else "not made again as recorded"
    return file.role, "" if file.index is None else file.index, result


def _row(image: "ReplayedImage") -> tuple[object, ...]:
    return image.index, image.seed, f"{_again(image)}{_stored(image)}"


def _again(image: "ReplayedImage") -> str:
    if image.equal:
        return "equal, bit for bit"
    return "made again as recorded" if image.bit_equal else "made again, it is another than recorded"


def _stored(image: "ReplayedImage") -> str:
    """What is stored, beside the picture that was made again."""
    if image.equal:
        return ""
    if image.max_abs is None:
        return "; what is stored cannot be compared with it"
    if image.max_abs == 0:
        return "; what is stored shows the same pixels"
    return f"; what is stored is different by {image.max_abs} of 255 at most, {image.mean_abs:.3g} on average"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
