"""What the LoRAs that come with the model do: measured with diffusers' own pipeline, judged, and told in the card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.starter.evaluate import Tally
from ops.starter.judge import TAUGHT, faults, judge
from ops.starter.lessons import CHECKED, ROSE, Lesson, lesson_prompts, shows
from ops.starter.prompts import Asked, held_out_prompts
from ops.starter.scenes import Scene
from ops.starter.stock import Stock
from ops.starter.training import say

_RIGHT = "background, colour and shape"
DEFAULT = ("euler", 20, 1.5)  # the model's: scheduler, steps, guidance
_LORAS: tuple[Sequence[Lesson], ...] = ((ROSE,), (CHECKED,), (ROSE, CHECKED))
_FEW_STEPS = {"few-steps": 1.0}
#: LoRAs, scheduler, steps, guidance.
_WAYS: tuple[tuple[Mapping[str, float], str, int, float], ...] = (
    ({}, *DEFAULT),
    *((_FEW_STEPS, "lcm", steps, 1.0) for steps in (4, 2, 1)),
    *(({}, "lcm", steps, 1.0) for steps in (4, 2, 1)),
)


@dataclass(frozen=True)
class Judged:
    """Prompts, and what their pictures show."""

    asked: Sequence[Asked]
    seen: Mapping[int, Scene]

    def shown(self, lessons: Sequence[Lesson]) -> float:
        """Per cent of the pictures that show the words of all these lessons where they were asked for."""
        found = [all(shows(lesson, one.scene, self.seen[one.seed]) for lesson in lessons) for one in self.asked]
        return 100 * sum(found) / len(found)

    def right(self, name: str = _RIGHT) -> float:
        """Per cent of the pictures of which this attribute is as asked: background, colours and shapes, or one."""
        tally = Tally()
        for one in self.asked:
            tally.add(faults(one.scene, self.seen[one.seed]))
        return 100 * tally.right(name)


class Trial:
    """A model and the folder of its LoRAs."""

    def __init__(self, model: Path, folder: Path) -> None:
        self._stock, self._folder = Stock(model), folder

    def words(self, count: int) -> str:
        """Of each LoRA that teaches a word, and of both, over `count` prompts of each kind: the table."""
        plain = held_out_prompts(count)
        before = self._judged({}, plain).right()
        rows = [
            [f"LoRA, {count} prompts each", *("its word, with it", "without"), *("other prompts, with it", "without")]
        ]
        for lessons in _LORAS:
            asked, loras = lesson_prompts(lessons, count), {lesson.word: 1.0 for lesson in lessons}
            shown = [self._judged(used, asked).shown(lessons) for used in (loras, {})]
            rest = [self._judged(loras, plain).right(), before]
            rows.append([" and ".join(loras), *(f"{value:.0f}" for value in (*shown, *rest))])
            say(str(rows[-1]))
        return table(rows)

    def steps(self, count: int) -> str:
        """Of few steps with the LoRA for them, and without it, over `count` prompts: the table."""
        asked = held_out_prompts(count)
        rows = [[f"LoRA, {count} prompts", "scheduler", "steps", "guidance", "denoiser's rows a picture", "right"]]
        for loras, scheduler, steps, guidance in _WAYS:
            right = self._judged(loras, asked, scheduler, steps, guidance).right()
            calls = steps * (2 if guidance > 1 else 1)
            rows.append([*(loras or ["none"]), scheduler, str(steps), f"{guidance:g}", str(calls), f"{right:.1f}"])
            say(str(rows[-1]))
        return table(rows)

    def _judged(
        self,
        loras: Mapping[str, float],
        asked: Sequence[Asked],
        scheduler: str = DEFAULT[0],
        steps: int = DEFAULT[1],
        guidance: float = DEFAULT[2],
    ) -> Judged:
        self._stock.use(loras, self._folder)
        pictures = self._stock.paint(asked, scheduler, steps, guidance)
        return Judged(asked, {seed: judge(picture, TAUGHT) for seed, picture in pictures.items()})


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first row is its head."""
    head, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rest]) + "\n"
