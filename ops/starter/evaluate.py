"""How often the model draws what the prompt asks: the table of the model card."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ops.starter.drawing import Picture
from ops.starter.judge import faults, judge
from ops.starter.prompts import Asked

ATTRIBUTES = ("background", "count", "colour", "shape", "texture", "size", "position", "style")
Paint = Callable[[Asked], Picture]


@dataclass
class Tally:
    """How many pictures were judged, and how many had each fault, or one of a set of faults."""

    judged: int = 0
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, found: set[str]) -> None:
        """Counts one picture with these faults."""
        self.judged += 1
        self.wrong.update(found)
        self.wrong["background and colour"] += bool(found & {"background", "colour", "count"})
        self.wrong["background, colour and shape"] += bool(found & {"background", "colour", "count", "shape"})
        self.wrong["everything"] += bool(found)

    def right(self, name: str) -> float:
        """The share, 0…1, of pictures without this fault."""
        return 1 - self.wrong[name] / max(1, self.judged)


def evaluate(paint: Paint, asked: Iterable[Asked]) -> dict[str, Tally]:
    """Tallies of pictures with one thing, with two, and of all."""
    tallies = {"one thing": Tally(), "two things": Tally(), "all": Tally()}
    for item in asked:
        found = faults(item.scene, judge(paint(item)))
        tallies["one thing" if len(item.scene.things) == 1 else "two things"].add(found)
        tallies["all"].add(found)
    return tallies


def table(tallies: dict[str, Tally]) -> str:
    """The tallies as Markdown: attributes down, kinds of scenes across, per cent right."""
    names = (*ATTRIBUTES, "background and colour", "background, colour and shape", "everything")
    head = ["right, %", *(f"{name} ({tally.judged})" for name, tally in tallies.items())]
    rows = [[name, *(f"{100 * tally.right(name):.1f}" for tally in tallies.values())] for name in names]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"
