"""A batch before it is sent: which lines are refused and why, and about what the others take."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkroom.cli.batch.lines import Line
from darkroom.cli.batch.survey import read
from darkroom.cli.pictures import without_upload
from darkroom.tasks import DarkroomError, InvalidRequest, Market, TaskSettings
from darkroom.tasks.own_loras import read_named
from darkroom.tasks.redis_io import BlockingIO, Key, Operation, command
from darkroom.tasks.validate import resolve


@dataclass
class Estimate:
    """What a batch takes: pictures, and cost by model (denoiser calls of a megapixel)."""

    requests: int = 0
    pieces: int = 0
    cost: dict[str, float] = field(default_factory=dict)

    def add(self, model: str, pieces: int, cost: float) -> None:
        """One more request."""
        self.requests += 1
        self.pieces += pieces
        self.cost[model] = self.cost.get(model, 0.0) + cost

    def seconds(self, paces: Mapping[str, float], workers: Mapping[str, int]) -> float | None:
        """About how long workers that do nothing else take; None where a model has not been measured."""
        if any(model not in paces for model in self.cost):
            return None
        return max(
            (cost * paces[model] / max(1, workers.get(model, 1)) for model, cost in self.cost.items()), default=0.0
        )


def checked(
    path: Path, defaults: Mapping[str, Any], market: Market, io: BlockingIO, settings: TaskSettings, estimate: Estimate
) -> Iterator[tuple[Line, DarkroomError]]:
    """The lines that would be refused; the others are added to the estimate. Nothing is sent, nothing uploaded."""
    with path.open("rb") as file:
        for line in read(file, path, defaults):
            try:
                if isinstance(line.found, InvalidRequest):
                    raise line.found
                _check(line.found, market, io, settings, estimate)
            except InvalidRequest as error:
                yield line, error


def _check(
    fields: Mapping[str, Any], market: Market, io: BlockingIO, settings: TaskSettings, estimate: Estimate
) -> None:
    """Raises InvalidRequest, as a submit would."""
    asked = without_upload(fields)
    own = io.run(read_named([asked]))
    found = resolve(asked, market.offers, lambda: settings.default_model or market.meant(), market.can, own=own)
    estimate.add(found.offer.name, found.filled.pieces, found.filled.cost(found.offer))


def paces(models: Collection[str]) -> Operation[dict[str, float]]:
    """Seconds that workers took for a unit of cost, lately, of those models that have been measured."""
    replies = yield [command("HGET", Key("paces"), model) for model in models]
    return {model: float(reply) / 1000 for model, reply in zip(models, replies, strict=True) if reply}
