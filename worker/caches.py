"""What takes long to make and is asked for again: encoded prompts, files that were read."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT = 64  # encoded prompts of SDXL take 1.3 MB each in float32


class Cache(Generic[T]):
    """What was used last, by everything that it depends on; made once, however many ask for it at a time.

    `hits` and `misses` count the asking. At most `most` are kept, and of those that are done so many as their `sizes`
    allow to be `room` together, the newest in any case.
    """

    def __init__(self, most: int = KEPT, sizes: Callable[[T], int] = lambda _: 0, room: int = 0) -> None:
        self._most, self._sizes, self._room = most, sizes, room
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Future[T]] = OrderedDict()
        self.hits = self.misses = 0

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under the key, else what `make` gives; whoever asks meanwhile waits for it.

        An error is for the one whose `make` raised it: the others try for themselves.
        """
        while True:
            found, mine = self._claim(key)
            if mine:
                return self._made(key, found, make)
            if found.exception() is None:
                return found.result()

    def forget(self, key: Hashable) -> None:
        """Whoever asks for it next makes it anew."""
        with self._lock:
            self._kept.pop(key, None)

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

    def _made(self, key: Hashable, found: Future[T], make: Callable[[], T]) -> T:
        try:
            result = make()
        except BaseException:
            with self._lock:
                if self._kept.get(key) is found:
                    del self._kept[key]
            found.set_exception(LookupError())  # not the error itself: it would hold its frames, and they this
            raise
        found.set_result(result)
        self._shrink()
        return result

    def _shrink(self) -> None:
        if not self._room:
            return
        with self._lock:
            sizes = {
                key: self._sizes(one.result()) for key, one in self._kept.items() if one.done() and not one.exception()
            }
            for key in list(sizes)[:-1]:
                if sum(sizes.values()) <= self._room:
                    return
                del self._kept[key], sizes[key]
