"""Files that were made again, held against the recorded and the stored ones."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from darkroom.worker.images.differences import Difference
from darkroom.worker.images.records import FileRecord
from darkroom.worker.images.stored import Load, Stored, read_stored
from darkroom.worker.kinds.products import ProducedFile


@dataclass(frozen=True)
class ReplayedFile:
    """A recorded file: whether the same bytes were made again, and what of the stored object is not as recorded."""

    role: str
    index: int | None
    bit_equal: bool
    faults: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether it is the recorded file, and what is stored is that, too."""
        return self.bit_equal and not self.faults


def compared_file(record: FileRecord, again: ProducedFile | None, stored: Stored) -> ReplayedFile:
    """A recorded file beside the one that was made again, if it was, and the stored one."""
    same = again is not None and sha256(again.data).hexdigest() == record.sha256
    return ReplayedFile(record.role, record.index, same, stored.faults)


def compared_files(
    records: Iterable[FileRecord], index: int | None, again: Sequence[ProducedFile], load: Load
) -> Iterator[ReplayedFile]:
    """The recorded files of an image, or of the job (None), beside those that were made again for it.

    Raises the StorageError of a store that does not answer.
    """
    made = {file.role: file for file in again}
    for record in records:
        if record.index == index:
            yield compared_file(record, made.get(record.role), read_stored(record, load))
