"""What is not as it was recorded, field by field."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """Something that is not as it was recorded; None where one side has none."""

    field: str
    recorded: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.field}: recorded {self.recorded}, now {self.now}"


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    """Between two trees of plain data, leaf by leaf; a leaf's field is the names on the way to it, with dots."""
    before, after = _flat(recorded, prefix), _flat(now, prefix)
    names = sorted({*before, *after})
    return [Difference(n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)]


def _flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
