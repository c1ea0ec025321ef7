"""Which LoRA lies on which pages of the bank: arithmetic alone, without threads, a clock or torch.

What holds: pages that are held are nobody else's; a LoRA lies on the same pages until it leaves; it leaves only while
nobody holds it and its pages are needed, and the one that was let go longest ago leaves first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Taken:
    """What was asked for lies here. `fresh`: what has to be written before it is used; `left`: what had to leave."""

    pages: Mapping[str, tuple[int, ...]]
    fresh: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(slots=True)
class _Lying:
    pages: tuple[int, ...]
    holders: int = 0


@dataclass(slots=True)
class Shelf:
    """Pages 1 to `size`; page 0 is nobody's. `loads` and `evictions` count."""

    size: int
    loads: int = 0
    evictions: int = 0
    _free: list[int] = field(init=False)
    _lying: OrderedDict[str, _Lying] = field(init=False, default_factory=OrderedDict)  # the longest unused first

    def __post_init__(self) -> None:
        self._free = list(range(self.size, 0, -1))

    def take(self, wanted: Mapping[str, int]) -> Taken | None:
        """Holds all of these (pages each), or none: None while others hold too many. Raises ValueError past `size`."""
        if sum(wanted.values()) > self.size:
            raise ValueError(f"{sum(wanted.values())} pages of {self.size}")
        missing = {name: pages for name, pages in wanted.items() if name not in self._lying}
        leaving = self._leaving(sum(missing.values()) - len(self._free), wanted)
        if leaving is None:
            return None
        for name in leaving:
            self._free += reversed(self._lying.pop(name).pages)
        for name, pages in missing.items():
            self._lying[name] = _Lying(tuple(self._free.pop() for _ in range(pages)))
        self.loads += len(missing)
        self.evictions += len(leaving)
        for name in wanted:
            self._lying[name].holders += 1
        return Taken({name: self._lying[name].pages for name in wanted}, tuple(missing), tuple(leaving))

    def release(self, names: Iterable[str]) -> None:
        """Lets go of what was taken."""
        for name in names:
            self._lying[name].holders -= 1
            self._lying.move_to_end(name)

    def drop(self, name: str) -> bool:
        """What was to be written there was not; says whether it is gone, which it is once nobody holds it."""
        if self._lying[name].holders:
            return False
        self._free += reversed(self._lying.pop(name).pages)
        return True

    def lying(self) -> dict[str, tuple[int, ...]]:
        """Which pages each has."""
        return {name: lying.pages for name, lying in self._lying.items()}

    def _leaving(self, needed: int, wanted: Mapping[str, int]) -> list[str] | None:
        found: list[str] = []
        for name, lying in self._lying.items():
            if needed <= 0:
                break
            if not lying.holders and name not in wanted:
                found.append(name)
                needed -= len(lying.pages)
        return None if needed > 0 else found
