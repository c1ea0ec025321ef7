"""Encoded prompts, kept: many jobs ask for the same words, and all images of a bot share a negative prompt."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
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
        self._kept: OrderedDict[Hashable, Future[T]] = OrderedDict()
        self.hits = self.misses = 0

    def get(self, key: Hashable, encode: Callable[[], T]) -> T:
        """What is kept under the key, else what `encode` gives; whoever asks meanwhile waits for it.

        An error is for the one whose `encode` raised it: the others try for themselves.
        """
        while True:
            found, mine = self._claim(key)
            if mine:
                return self._encoded(key, found, encode)
            if found.exception() is None:
                return found.result()

    def _claim(self, key: Hashable) -> tuple[Future[T], bool]:
        """What is or will be there, and whether it is left to the one who asks."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self.hits += 1
                self._kept.move_to_end(key)
                return found, False
            self.misses += 1
            found = self._kept[key] = Future()
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return found, True

    def _encoded(self, key: Hashable, found: Future[T], encode: Callable[[], T]) -> T:
        try:
            result = encode()
        except BaseException:
            with self._lock:
                if self._kept.get(key) is found:
                    del self._kept[key]
            found.set_exception(LookupError())  # not the error itself: it would hold its frames, and they this
            raise
        found.set_result(result)
        return result
