"""One finding of `darkroom doctor`."""

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    part: str
    state: Literal["ok", "warning", "broken"]
    message: str
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)
