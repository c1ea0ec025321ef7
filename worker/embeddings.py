"""Encoded prompts, kept: many jobs ask for the same words, and all images of a bot share a negative prompt."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT = 64  # SDXL's take 1.3 MB each in float32


class EmbeddingCache(Generic[T]):
    """The prompts of one model that were used last, by everything that their encoding depends on.

    `hits` and `misses` count the asking.
    """

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self.hits = self.misses = 0

    def get(self, key: Hashable, encode: Callable[[], T]) -> T:
        """What is kept under the key, else what `encode` gives; two that ask at once may both encode."""
        with self._lock:
            if key in self._kept:
                self.hits += 1
                self._kept.move_to_end(key)
                return self._kept[key]
            self.misses += 1
        found = encode()
        with self._lock:
            self._kept[key] = found
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return found
