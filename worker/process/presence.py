"""A worker's word that it lives and what it serves: given when it is ready, repeated, taken back when it stops."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import structlog

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.claims import retire, serve
from darkroom.tasks.errors import QueueError
from darkroom.tasks.places import Has
from darkroom.tasks.redis_io import BlockingIO
from darkroom.worker.adapters.keeper import BankStats

WORD_SECONDS = 15  # how long the word holds
REPEAT_SECONDS = 5.0
MOST_NAMES = 50  # of LoRAs in a bank


class Presence:
    """What one worker process says of itself."""

    def __init__(
        self,
        io: BlockingIO,
        worker: str,
        offers: Sequence[ModelOffer],
        about: Mapping[str, object],
        waits_for: Callable[[], str] = str,
        has: Has | None = None,
        banks: Mapping[str, Callable[[], BankStats]] = MappingProxyType({}),
    ) -> None:
        """`waits_for` tells why it takes no jobs now; empty where it does. `has`: see `darkroom.tasks.needs`.

        `banks` of LoRAs, by model.
        """
        self._banks = banks
        self._io, self._worker, self._offers, self._waits_for = io, worker, offers, waits_for
        self._has = has
        self._about = {**about, "models": [offer.name for offer in offers], "started": time.time()}
        self._next: float | None = None  # nothing is said before `begin`

    def begin(self) -> None:
        """Messages are taken from now on."""
        self._next = 0.0
        try:
            self.beat()
        except QueueError as error:  # the next beat says it
            structlog.get_logger().warning("worker.not_heard", code=error.code)
        structlog.get_logger().info("worker.ready", worker=self._worker, models=self._about["models"])

    def beat(self) -> None:
        """Repeats the word if it is time to. Raises QueueError."""
        now = time.monotonic()
        if self._next is None or now < self._next:
            return
        about = {**self._about, "waits_for": self._waits_for(), "banks": dict(self._said_of_banks())}
        self._io.run(serve(self._worker, about, WORD_SECONDS, self._offers, self._has))
        self._next = now + REPEAT_SECONDS

    def _said_of_banks(self) -> Iterator[tuple[str, dict[str, object]]]:
        for model, read in self._banks.items():
            bank = read()
            names = sorted(bank.names.get(sha256, "?") for sha256 in bank.lying)
            yield model, {"loras": names[:MOST_NAMES], "used": bank.used, "pages": bank.size, "bytes": bank.bytes}

    def retire(self) -> None:
        """Takes the word back; where Redis is away it runs out by itself."""
        self._next = None
        try:
            self._io.run(retire(self._worker, [offer.name for offer in self._offers]))
        except QueueError as error:
            structlog.get_logger().warning("worker.not_heard", code=error.code)
