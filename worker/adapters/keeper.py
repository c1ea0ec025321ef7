"""Which LoRAs are in the bank, for images that come and go: held from an image's first call to its last."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from darkroom.worker.adapters.lora import Lora
from darkroom.worker.adapters.shelf import Shelf, Taken

LOOK = 0.5  # seconds between two looks whether an image that waits for room is still wanted

Pages = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class BankStats:
    """Of one bank: `loads`, `evictions` for others, images that had `waits` for room; what lies on which pages.

    There are `size` pages; `bytes` that the bank takes. `names` of what lies there, by digest.
    """

    loads: int
    evictions: int
    waits: int
    lying: Pages
    size: int
    bytes: int = 0
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """Pages that something lies on."""
        return sum(map(len, self.lying.values()))


class Keeper:
    """Thread-safe. LoRAs go by the digest of their file, and are written once for all who hold them."""

    def __init__(self, size: int, write: Callable[[Lora, Sequence[int]], None]) -> None:
        """`size` in pages. `write` puts a LoRA on pages that no call reads, and returns when calls may."""
        self._shelf, self._write = Shelf(size), write
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._written: dict[str, Future[None]] = {}
        self._waits = 0

    @contextmanager
    def held(
        self, wanted: Mapping[str, int], load: Callable[[str], Lora], check: Callable[[], None]
    ) -> Iterator[Pages]:
        """In the context these are in the bank, each on so many pages; what is not there is loaded.

        Waits while others hold too much of it; who came first goes first. `check` is asked meanwhile, and may raise.
        Raises what loading and writing raise.
        """
        if not wanted:  # who needs no room does not stand in line for it
            yield {}
            return
        taken = self._take(wanted, check)
        try:
            for sha256 in taken.fresh:
                self._put(sha256, load, taken)
            for sha256 in taken.pages:
                self._written[sha256].result()
            yield taken.pages
        finally:
            self._release(taken)

    def has(self, sha256: str) -> bool:
        """Whether it lies there now; it may leave at any time."""
        with self._changed:
            return sha256 in self._written

    def forget(self, sha256: str) -> None:
        """It leaves at once, unless somebody holds it."""
        with self._changed:
            if sha256 in self._written and self._shelf.drop(sha256):
                del self._written[sha256]
                self._changed.notify_all()

    def stats(self) -> BankStats:
        """What was done until now, and what lies there."""
        with self._changed:
            shelf = self._shelf
            lying = shelf.lying()
            return BankStats(shelf.loads, shelf.evictions, self._waits, lying, shelf.size)

    def _take(self, wanted: Mapping[str, int], check: Callable[[], None]) -> Taken:
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                waited = False
                while self._waiting[0] is not turn or (taken := self._shelf.take(wanted)) is None:
                    self._waits += not waited
                    waited = True
                    if not self._changed.wait(LOOK):
                        self._changed.release()  # what is asked may take a while
                        try:
                            check()
                        finally:
                            self._changed.acquire()
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
            for name in taken.left:
                del self._written[name]
                structlog.get_logger().info("adapter.left_bank", sha256=name)
            self._written |= {name: Future() for name in taken.fresh}
            return taken

    def _put(self, sha256: str, load: Callable[[str], Lora], taken: Taken) -> None:
        """An error is for all who wait for the LoRA; the next who asks for it writes it anew."""
        try:
            self._write(load(sha256), taken.pages[sha256])
        except BaseException as error:
            self._written[sha256].set_exception(error)
            raise
        self._written[sha256].set_result(None)

    def _release(self, taken: Taken) -> None:
        with self._changed:
            for sha256 in taken.fresh:
                if not self._written[sha256].done():  # another one's error came first
                    self._written[sha256].set_exception(LookupError(sha256))
            self._shelf.release(taken.pages)
            for sha256 in taken.pages:
                written = self._written[sha256]
                if written.done() and written.exception() is not None and self._shelf.drop(sha256):
                    del self._written[sha256]
            self._changed.notify_all()
