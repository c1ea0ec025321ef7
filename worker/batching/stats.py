"""What the engine has done so far, for metrics and measurements."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class EngineStats:
    """Counts and seconds since the engine began; `Engine.stats` gives a copy.

    Of the denoiser: `model_calls` by bucket; `rows` that images asked for, `padding` rows beside them; rows that were
    `adapted` (had LoRAs or a style), and plain ones in a call `beside` such; `calls` of images, which waited `queued`
    seconds from their coming to their start, `company` of them while the engine stood still for others to join. `busy`
    seconds in model calls, `step` of the newest; `gap` from rows handed back to the last caller's next call, the
    newest; `cap`, the most rows of a call of the newest group. `repeated` calls after an error among several; model
    calls that ran `out_of_memory`. Now: `waiting` calls, images `stepping` their schedulers, and `spare` work that
    waits.
    """

    model_calls: dict[int, int] = field(default_factory=dict)
    rows: int = 0
    padding: int = 0
    adapted: int = 0
    beside: int = 0
    calls: int = 0
    queued: float = 0.0
    company: float = 0.0
    busy: float = 0.0
    step: float = 0.0
    gap: float = 0.0
    cap: int = 0
    repeated: int = 0
    out_of_memory: int = 0
    waiting: int = 0
    stepping: int = 0
    spare: int = 0

    def ran(self, bucket: int, rows: int, adapted: int = 0) -> None:
        """One model call more."""
        self.adapted += adapted
        self.beside += rows - adapted if adapted else 0
        self.model_calls[bucket] = self.model_calls.get(bucket, 0) + 1
        self.rows += rows
        self.padding += bucket - rows

    def measured(self, seconds: float) -> None:
        """How long a model call took."""
        self.busy += seconds
        self.step = seconds

    def started(self, queued: float, company: float) -> None:
        """A call's waiting is over."""
        self.calls += 1
        self.queued += queued
        self.company += company
