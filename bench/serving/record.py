"""What a cell found, as JSON on disk; written after every round, so that a cell that was cut off goes on."""

import os
from pathlib import Path

from pydantic import BaseModel

from bench.serving.machine import Machine


class Round(BaseModel):
    """One load on one side. `samples`: due and done of each picture in seconds; `tflop` of all of them together.

    Memory in MB; `gap` is the seconds that all images in flight together need for one step of a free denoiser.
    """

    samples: list[tuple[float, float]] = []
    seconds: float = 0.0
    tflop: float = 0.0
    rss: float = 0.0
    gpu_memory: float | None = None
    busy: float | None = None
    gap: float | None = None

    @property
    def rate(self) -> float:
        """Pictures a second, from the first ask to the last picture."""
        return len(self.samples) / self.seconds

    @property
    def latencies(self) -> list[float]:
        """Seconds."""
        return [done - due for due, done in self.samples]


class CellRecord(BaseModel):
    """One cell. `wanted` rounds of every side; `capacity` is side (a)'s in pictures a second where arrivals need it.

    `looks` is the same picture as each side made it, 8 by 8 pixels of RGB: all do the same work where these are alike.
    """

    cell: str
    kind: str
    model: str
    device: str
    dtype: str
    machine: Machine
    threads: int
    settings: dict[str, str]
    sizes: list[int]
    steps: list[int]
    ceiling: float | None
    wanted: int
    sides: dict[str, list[Round]]
    capacity: float | None = None
    share: float | None = None
    looks: dict[str, list[int]] = {}

    @property
    def complete(self) -> bool:
        """Whether every side has all of its rounds."""
        return all(len(rounds) >= self.wanted for rounds in self.sides.values())

    def goes_on(self, fresh: "CellRecord") -> bool:
        """Whether this is the beginning of what `fresh` would be, on the very same machine."""
        apart = {"sides", "ceiling", "capacity", "looks"}
        same = self.model_dump(exclude=apart) == fresh.model_dump(exclude=apart)
        return same and self.sides.keys() == fresh.sides.keys()

    def save(self, folder: Path) -> None:
        """A reader finds the record before or after, never half of it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.cell}.json"
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        unfinished.write_text(self.model_dump_json(indent=1) + "\n")
        unfinished.replace(path)


def load_record(folder: Path, cell: str) -> CellRecord | None:
    """What is there of a cell."""
    path = folder / f"{cell}.json"
    return CellRecord.model_validate_json(path.read_bytes()) if path.exists() else None


def load_records(folder: Path) -> list[CellRecord]:
    """All cells of a folder, by name."""
    return [CellRecord.model_validate_json(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
