"""A data set's files on their way into memory, with what is wrong with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from darkroom.storage.archives import MOST_ENTRIES
from darkroom.tasks.errors import Fault
from darkroom.worker.errors import DatasetInvalid
from darkroom.worker.training.names import clean_name, is_ignored, told

MOST_BYTES = 500_000_000  # of all files: they stay in memory while the job runs
MOST_FILE_BYTES = 50_000_000

DATASET = "dataset"  # in place of a file's name, where the fault is of all


@dataclass
class Collected:
    """Files by clean name, and faults; `refused` are the clean names of files that could not be taken."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def place(self, name: str) -> str | None:
        """The clean name for a file that is wanted; None for one that is ignored, or that a fault was told of."""
        clean = clean_name(name)
        if clean is None:
            self.faults.append(Fault(told(name), "path_unsafe", "leads out of the data set; use plain relative names"))
        elif not is_ignored(clean):
            if clean not in self.files and clean not in self.refused:
                return clean
            self.refuse(clean, "name_twice", "there are two files of this name")
        return None

    def refuse(self, name: str, code: str, message: str) -> None:
        """Tells a fault of the file with this clean name."""
        self.refused.add(name)
        self.faults.append(Fault(told(name), code, message))


def collect(files: Mapping[str, bytes]) -> Collected:
    """Files that are in memory already, by relative name. Raises DatasetInvalid where they are too many."""
    check_number(len(files))
    collected = Collected()
    for name in sorted(files):
        if place := collected.place(name):
            if len(files[name]) > MOST_FILE_BYTES:
                refuse_size(collected, place)
            else:
                collected.files[place] = files[name]
    if sum(map(len, collected.files.values())) > MOST_BYTES:
        raise DatasetInvalid([*collected.faults, too_large()])
    return collected


def check_number(files: int) -> None:
    """Raises DatasetInvalid for too many files."""
    if files > MOST_ENTRIES:
        raise DatasetInvalid(
            [Fault(DATASET, "too_many_files", f"has over {MOST_ENTRIES:,} files, the most that are read")]
        )


def refuse_size(collected: Collected, name: str) -> None:
    """For a file over MOST_FILE_BYTES."""
    collected.refuse(name, "file_too_large", f"is over {MOST_FILE_BYTES // 1_000_000} MB")


def too_large() -> Fault:
    """For files over MOST_BYTES in all."""
    return Fault(DATASET, "too_large", f"its files are over {MOST_BYTES // 1_000_000} MB in all")
