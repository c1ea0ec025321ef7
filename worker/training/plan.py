"""Which pictures a step trains on, and what is drawn for each of them, from the seed and the step's number alone.

Nothing is kept from one step to the next, so a training that was resumed goes on as if it had never stopped. Draws are
raw words of Philox (Salmon et al. 2011) under a key that numpy's SeedSequence makes of seed, purpose and counter: these
two are the same in all versions of numpy, which its permutations and distributions are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from darkroom.worker.training.buckets import CENTRE, Size


class _Purpose(IntEnum):
    """Keeps draws apart; a number here is part of what a seed means."""

    BATCHES = 0
    EXAMPLES = 1
    DRAWS = 2
    PRIOR = 3
    CLASS_IMAGES = 4


@dataclass(frozen=True)
class Draw:
    """An example (its place among the data set's) in a batch, and what is done to it there.

    `crop`: where it is cut, as `buckets.frame` takes it. `key` (63 bits) seeds its noise and its time step, and is
    another one wherever the example comes again.
    """

    example: int
    flip: bool
    drop_caption: bool
    crop: tuple[float, float]
    key: int


@dataclass(frozen=True)
class Plan:
    """The order of a training. `buckets`: the size of each example, in their order.

    A step has `accumulation` batches of `batch_size` examples. `flip`: each is flipped left to right half of the times.
    `caption_dropout`: how often it is trained on with an empty caption, from 0 to 1. `random_crop`: it is cut anywhere,
    else about its centre. In an epoch every example comes once. Batches are of one bucket: a bucket's last one is
    filled up from its next order, with examples that it does not have yet while there are such.
    """

    buckets: Sequence[Size]
    batch_size: int
    accumulation: int
    seed: int
    flip: bool = False
    caption_dropout: float = 0.0
    random_crop: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for a plan of nothing."""
        if not self.buckets or self.batch_size < 1 or self.accumulation < 1:
            raise ValueError("a plan needs examples, and batches of at least one")

    def batch(self, step: int, micro: int) -> tuple[Draw, ...]:
        """Batch `micro` of a step, both counted from 0: `batch_size` examples of one bucket. Raises IndexError."""
        if step < 0 or not 0 <= micro < self.accumulation:
            raise IndexError(f"there is no batch {micro} of step {step}")
        number = step * self.accumulation + micro
        epoch, place = divmod(number, self.epoch_batches)
        members, start = self._slots[self._shuffled(self.epoch_batches, _Purpose.BATCHES, epoch)[place]]
        words = self._words(5 * self.batch_size, _Purpose.DRAWS, number).reshape(-1, 5).tolist()
        return tuple(
            self._draw(example, row) for example, row in zip(self._filled(members, start, epoch), words, strict=True)
        )

    def largest(self) -> tuple[int, int]:
        """Step and number of the first batch of the largest size: none takes more."""
        size = max(self.buckets, key=lambda one: (one[0] * one[1], one))
        numbers = range(self.epoch_batches)  # an epoch has batches of all sizes
        batches = (divmod(number, self.accumulation) for number in numbers)
        return next(at for at in batches if self.buckets[self.batch(*at)[0].example] == size)

    @cached_property
    def epoch_batches(self) -> int:
        """How many batches an epoch has."""
        return len(self._slots)

    def epoch(self, step: int) -> int:
        """The epoch, from 0, that a step begins in."""
        return step * self.accumulation // self.epoch_batches

    @cached_property
    def _slots(self) -> tuple[tuple[tuple[int, ...], int], ...]:
        """An epoch's batches: the examples of a bucket, and where in their order the batch begins."""
        found: dict[Size, list[int]] = {}
        for example, bucket in enumerate(self.buckets):
            found.setdefault(bucket, []).append(example)
        members = [tuple(found[bucket]) for bucket in sorted(found)]
        return tuple((one, start) for one in members for start in range(0, len(one), self.batch_size))

    def _filled(self, members: tuple[int, ...], start: int, epoch: int) -> list[int]:
        chosen = self._order(members, epoch)[start : start + self.batch_size]
        while len(chosen) < self.batch_size:
            epoch += 1
            later = self._order(members, epoch)
            fresh = [example for example in later if example not in chosen] or later
            chosen += fresh[: self.batch_size - len(chosen)]
        return chosen

    def _order(self, members: tuple[int, ...], epoch: int) -> list[int]:
        """Of a bucket, in this epoch; its first example tells it from the other buckets."""
        return [members[place] for place in self._shuffled(len(members), _Purpose.EXAMPLES, members[0], epoch)]

    def _draw(self, example: int, words: list[int]) -> Draw:
        flip, drop, left, top, key = words
        return Draw(
            example,
            flip=self.flip and _unit(flip) < 0.5,
            drop_caption=_unit(drop) < self.caption_dropout,
            crop=(_unit(left), _unit(top)) if self.random_crop else CENTRE,
            key=key >> 1,
        )

    def _shuffled(self, length: int, purpose: _Purpose, *counter: int) -> list[int]:
        order: list[int] = np.argsort(self._words(length, purpose, *counter), kind="stable").tolist()
        return order

    def _words(self, length: int, purpose: _Purpose, *counter: int) -> NDArray[np.uint64]:
        return _words(self.seed, length, purpose, *counter)


def prior_seed(seed: int) -> int:
    """Of the plan for what a training of this seed learns from beside its data set: noise of its own."""
    return _seed(seed, _Purpose.PRIOR)


def class_image_seed(seed: int, index: int) -> int:
    """Of a picture that the model makes for a training of this seed before it learns; below 2 to the 53rd."""
    return _seed(seed, _Purpose.CLASS_IMAGES, index)


def _seed(seed: int, purpose: _Purpose, *counter: int) -> int:
    return int(_words(seed, 1, purpose, *counter)[0]) >> 11


def _words(seed: int, length: int, purpose: _Purpose, *counter: int) -> NDArray[np.uint64]:
    key = np.random.SeedSequence(seed, spawn_key=(purpose, *counter))
    return np.random.Philox(key).random_raw(length)


def _unit(word: int) -> float:
    """A word of 64 bits as a number from 0 to below 1, of the 53 bits that a float holds."""
    return (word >> 11) * 2.0**-53
