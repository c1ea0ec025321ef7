"""What an image wishes of the engine, and where its denoiser calls were placed: enough to run each of them again.

A row's bits depend on the bucket that it ran in, on its place there, and on how wide the extras were that the call had
for any of its rows, not on its company. The record is a text of runs: `28x8:2 2x4:0` is 28 calls whose rows began at
row 2 of a bucket of 8, then two at the start of a bucket of 4; `8:2@4.0.1` is one with extras 4, 0 and 1 wide;
`1:0:1+1:0:1` is one call that memory forced apart, with the rows of each part.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

MAX_BUCKET = 64
MAX_LENGTH = 100_000  # characters of one image's record

_WIDTHS = r"(@[0-9]{1,3}(\.[0-9]{1,3}){0,7})?"
_PART = rf"[1-9][0-9]{{0,2}}:[0-9]{{1,3}}(:[1-9][0-9]{{0,2}})?{_WIDTHS}"
_RUN = rf"([1-9][0-9]{{0,5}}x)?{_PART}(\+{_PART})*"
PATTERN = rf"^({_RUN}( {_RUN})*)?$"


class Place(NamedTuple):
    """Some rows of a call: `rows` from row `first` on, in a model call of `bucket` rows; `widths` are its extras'."""

    bucket: int
    first: int
    rows: int
    widths: tuple[int, ...] = ()


Places = tuple[Place, ...]  # of one call: one, or several where memory forced it apart


class Placements:
    """The places of one image's denoiser calls, in their order."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, Places]] = []

    def add(self, places: Sequence[Place]) -> None:
        """The next call's."""
        found = tuple(places)
        if self._runs and self._runs[-1][1] == found:
            self._runs[-1] = (self._runs[-1][0] + 1, found)
        else:
            self._runs.append((1, found))

    def __str__(self) -> str:
        return " ".join(_run(times, places) for times, places in self._runs)


class Script:
    """The places of a record, call by call. Raises ValueError for a text that is none."""

    def __init__(self, record: str) -> None:
        if len(record) > MAX_LENGTH or not re.fullmatch(PATTERN, record):
            raise ValueError("no record of placements")
        self._calls = _calls(record)

    def next(self, rows: int) -> Places | None:
        """Where the next call of so many rows belongs; None where the record ends or speaks of another call."""
        places = next(self._calls, ())
        if len(places) == 1:
            places = (places[0]._replace(rows=rows),)
        fitting = all(place.first + place.rows <= place.bucket <= MAX_BUCKET for place in places)
        return places if fitting and sum(place.rows for place in places) == rows else None


class Ticket:
    """One image's dealings with the engine.

    `urgent` goes before what is not, which stands still meanwhile; `solo` calls go alone, in the smallest bucket; a
    `script` repeats recorded places. `waited` counts the seconds in which the engine stood still so that others could
    join this image's calls. `on_call` hears of each call (`darkroom.worker.batching.stacking.Call`) before it waits;
    `on_wait` is asked now and then while the image waits, for a call or for something else, and may raise.
    """

    def __init__(
        self,
        *,
        urgent: bool = True,
        solo: bool = False,
        script: Script | None = None,
        on_call: Callable[[Any], None] = lambda _: None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.urgent, self.script, self.on_call, self.on_wait = urgent, script, on_call, on_wait
        self.solo = solo or script is not None
        self.placements = Placements()
        self.waited = 0.0


def _run(times: int, places: Places) -> str:
    parts = [_part(place, with_rows=len(places) > 1) for place in places]
    return (f"{times}x" if times > 1 else "") + "+".join(parts)


def _part(place: Place, *, with_rows: bool) -> str:
    rows = f":{place.rows}" if with_rows else ""
    widths = "@" + ".".join(map(str, place.widths)) if place.widths else ""
    return f"{place.bucket}:{place.first}{rows}{widths}"


def _calls(record: str) -> Iterator[Places]:
    for run in record.split():
        times, _, parts = run.rpartition("x")
        yield from repeat(tuple(map(_place, parts.split("+"))), int(times or 1))


def _place(part: str) -> Place:
    where, _, widths = part.partition("@")
    bucket, first, rows = map(int, f"{where}:0".split(":")[:3])
    return Place(bucket, first, rows, tuple(map(int, widths.split("."))) if widths else ())
