"""Samples of a training: which pictures are made on its way, when, and how they are numbered."""

from dataclasses import dataclass

from darkroom.tasks.fields import MAX_SEED

MOST_PROMPTS = 8
MOST_SAMPLES = 200  # that are planned: numbers end at 255, and the others are for rounds that nobody planned
ROUNDS = 10  # about so many, unless it is said when they are made


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """One sample for each of the `prompts`: before the first step, after each `every`-th one, and after the last.

    Numbers and seeds follow from step and prompt alone, so that a training which is gone on with has those of one that
    was not interrupted. Without prompts nothing is planned.
    """

    prompts: tuple[str, ...]
    every: int
    steps: int
    seed: int

    @property
    def rounds(self) -> int:
        """How often samples are made."""
        return 1 - (-self.steps // self.every) if self.prompts else 0

    @property
    def count(self) -> int:
        """Of all samples."""
        return self.rounds * len(self.prompts)

    def first_at(self, step: int) -> int | None:
        """The number of the first sample after so many steps; None where none is due."""
        if not self.prompts or (step % self.every and step != self.steps):
            return None
        return -(-step // self.every) * len(self.prompts)

    def seed_of(self, prompt: int) -> int:
        """The seed of a prompt's samples, the same at every step; `prompt` by its place."""
        return (self.seed + prompt) % (MAX_SEED + 1)


def usual_every(steps: int) -> int:
    """How many steps are between two rounds, where it was not said."""
    return -(-steps // ROUNDS)
